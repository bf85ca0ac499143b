"""What `to_config` writes, `from_config` reads: the same object, nothing shared lost, nothing else ever called."""

import collections
import functools
import inspect
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, transformers
from tfp_flows.saving import from_config, to_config
from tfp_flows.saving.allow_list import FUNCTIONS, is_function_of_a_tensor
from tfp_flows.saving.keras_objects import check_keras
from tfp_flows.tracking import layers_of

kernels = tfp.math.psd_kernels


@keras.saving.register_keras_serializable(package="tests")
class ShiftAndLogScale(keras.layers.Layer):
    """A network of Keras 3 as `tfb.RealNVP` calls it."""

    def __init__(self, output_size, **kwargs):
        super().__init__(**kwargs)
        self.output_size = output_size
        self.dense = keras.layers.Dense(2 * output_size, activation="tanh")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def __call__(self, x, output_units):
        return super().__call__(x)  # Keras takes tensors only

    def call(self, x):
        return tf.split(self.dense(x), 2, axis=-1)

    def get_config(self):
        return {**super().get_config(), "output_size": self.output_size}


@keras.saving.register_keras_serializable(package="tests")
class Doubled(tfb.Bijector):
    """A user's own bijector, with keyword arguments that have no names."""

    def __init__(self, offset, name=None, **others):
        parameters = dict(locals())
        self.offset = offset
        super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name, **others)

    def _forward(self, x):
        return 2.0 * x + self.offset

    def _inverse(self, y):
        return (y - self.offset) / 2.0

    def _forward_log_det_jacobian(self, x):
        return tf.math.log(tf.constant(2.0, x.dtype))

    def get_config(self):
        return self.parameters


@keras.saving.register_keras_serializable(package="tests")
def twice(x):
    return 2.0 * x


@keras.saving.register_keras_serializable(package="tests")
class Holder(keras.Model):
    """A Keras model whose configuration holds ours."""

    def __init__(self, distribution, **kwargs):
        super().__init__(**kwargs)
        self.distribution = distribution
        self.built = True

    def get_config(self):
        return {"distribution": to_config(self.distribution)}

    @classmethod
    def from_config(cls, config):
        return cls(from_config(config["distribution"]))


def chain():
    variable = tfp.util.TransformedVariable(2.0 * tf.eye(4), tfb.FillScaleTriL(), name="scale_tril")
    return tfb.Chain(
        [
            tfb.Reshape(event_shape_in=[4], event_shape_out=tf.TensorShape([2, 2])),
            tfb.Shift(tf.Variable([1.0, 2.0, 3.0, 4.0], name="shift")),
            tfb.ScaleMatvecTriL(variable, name="scale"),
            tfb.Invert(tfb.Exp(), name="logarithm"),
            tfb.Permute(np.array([2, 0, 1, 3])),
            tfb.Softplus(hinge_softness=np.float32(0.7)),
        ]
    )


def normal(size):
    return tfd.MultivariateNormalDiag(tf.zeros([size]), tf.ones([size]))


def transformed(bijector, size):
    return tfd.TransformedDistribution(normal(size), bijector)


def maf(**arguments):
    network = tfb.AutoregressiveNetwork(2, hidden_units=[8, 8], activation="relu", **arguments)
    network.build([None, 3])
    return transformed(tfb.MaskedAutoregressiveFlow(network, name="maf"), 3)


def two_variables(name):
    return tfd.Normal(tf.Variable([0.0, 1.0], name=f"{name}_loc"), tf.Variable([1.0, 2.0], name=f"{name}_scale"))


def independent(name):
    return tfd.Independent(two_variables(name), reinterpreted_batch_ndims=1)


def keras_net():
    return keras.Sequential([keras.layers.Dense(5, activation=twice), keras.layers.LeakyReLU(), keras.layers.Dense(4)])


def tfp_real_nvp():
    layer = ShiftAndLogScale(2)
    layer.build((None, 1))
    return transformed(tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=layer), 3)


def constrained():
    scale = tf.Variable(2.0, constraint=keras.constraints.NonNeg(), trainable=False, name="a/scale")
    return tfd.Normal(tfp.util.DeferredTensor(tf.Variable(0.5), tf.math.exp, name="loc"), scale)


context = {"bijector_kwargs": {"conditional_input": tf.constant([[0.5, -1.0]])}}
CASES = {
    "normal_diag": (lambda: normal(3), {}),
    "student_float64": (lambda: tfd.StudentT(tf.constant(3.0, tf.float64), np.float64(0.5), np.float64(2.0)), {}),
    "normal_tril": (
        lambda: tfd.MultivariateNormalTriL(
            tf.Variable([0.0, 1.0]),
            tfp.util.TransformedVariable([[1.0, 0.0], [0.5, 2.0]], tfb.FillScaleTriL(diag_shift=np.float32(1e-5))),
        ),
        {},
    ),
    "mixture": (
        lambda: tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.Variable([0.0, 1.0], name="logits")), two_variables("components")
        ),
        {},
    ),
    "joint_named": (lambda: tfd.JointDistributionNamed({"b": normal(2), "a": independent("a")}), {}),
    "joint_ordered": (
        lambda: tfd.JointDistributionNamed(collections.OrderedDict(b=normal(2), a=independent("a"))),
        {},
    ),
    "joint_sequential": (lambda: tfd.JointDistributionSequential([normal(2), independent("a")]), {}),
    "joint_namedtuple": (
        lambda: tfd.JointDistributionNamed(collections.namedtuple("Pair", "x y")(normal(1), normal(2))),
        {},
    ),
    "independent": (lambda: independent("a"), {}),
    "sample": (lambda: tfd.Sample(two_variables("a"), sample_shape=(3,)), {}),
    "infinite": (lambda: tfd.TruncatedNormal(0.0, 1.0, low=-1.0, high=float("inf")), {}),
    "constrained": (constrained, {}),
    "keyword_arguments": (
        lambda: tfd.ZeroInflatedNegativeBinomial(total_count=3.0, probs=0.5, inflated_loc_probs=0.2),
        {},
    ),
    "chain": (lambda: transformed(chain(), 4), {}),
    "registered": (lambda: transformed(Doubled(tf.Variable(1.0), name="doubled", validate_args=True), 2), {}),
    "inline": (
        lambda: transformed(
            tfb.Inline(tf.math.sinh, tf.math.asinh, inverse_log_det_jacobian_fn=twice, forward_min_event_ndims=0), 2
        ),
        {},
    ),
    "blockwise": (
        lambda: transformed(tfb.Blockwise([tfb.Exp(), tfb.Scale(tf.Variable(3.0))], block_sizes=[1, 2]), 3),
        {},
    ),
    "linear_operator": (
        lambda: transformed(
            tfb.ScaleMatvecLinearOperator(
                tf.linalg.LinearOperatorComposition(
                    [
                        tf.linalg.LinearOperatorLowerTriangular(tf.Variable([[1.0, 0.0], [1.0, 2.0]])),
                        tf.linalg.LinearOperatorDiag([1.0, 3.0], is_non_singular=True),
                    ]
                )
            ),
            2,
        ),
        {},
    ),
    "gaussian_process": (
        lambda: tfd.GaussianProcess(
            kernels.ExponentiatedQuadratic(tf.Variable(1.5, name="amplitude"), 0.5) + kernels.Linear(),
            index_points=np.float32([[0.0], [0.4], [1.0]]),
            observation_noise_variance=0.1,
            cholesky_fn=tf.linalg.cholesky,
        ),
        {},
    ),
    "maf": (lambda: maf(kernel_initializer=tf_keras.initializers.VarianceScaling(0.1, seed=1)), {}),
    "maf_right_to_left": (lambda: maf(event_shape=[3], input_order="right-to-left"), {}),
    "maf_random_order": (lambda: maf(input_order="random", kernel_regularizer="l2", use_bias=False), {}),
    "maf_context": (lambda: maf(event_shape=3, conditional=True, conditional_event_shape=2), context),
    "tfp_real_nvp": (tfp_real_nvp, {}),
    "our_real_nvp": (lambda: transformed(bijectors.RealNVP(3, activation=tf.nn.silu, seed=3, name="real_nvp"), 3), {}),
    "our_coupling": (
        lambda: transformed(
            bijectors.Coupling(4, transformers.Affine(2.0), np.array([True, False, False, True]), keras_net()), 4
        ),
        {},
    ),
}


def through_json(value):
    return from_config(json.loads(json.dumps(to_config(value), allow_nan=False)))


def weights_of(distribution):
    return [weight for layer in layers_of(distribution) for weight in layer.weights]


def parts_of(distribution):
    modules = [distribution, *distribution.submodules]
    return [(type(m).__name__, m.name) for m in modules if isinstance(m, (tfb.Bijector, tfd.Distribution))]


@pytest.mark.filterwarnings("ignore:The initializer VarianceScaling")  # one instance for all layers, as TFP has it
@pytest.mark.parametrize("case", CASES)
def test_what_is_read_is_what_was_written(case):
    make, keywords = CASES[case]
    original = make()
    x = original.sample(4, seed=1, **keywords)
    expected = original.log_prob(x, **keywords)

    rebuilt = through_json(original)

    assert parts_of(rebuilt) == parts_of(original)
    assert [(v.shape, v.dtype, v.trainable) for v in rebuilt.variables] == [
        (v.shape, v.dtype, v.trainable) for v in original.variables
    ]
    if "maf" not in case and case != "our_coupling":  # where Keras names the weights by numbers and scopes of its own
        assert [v.name for v in rebuilt.variables] == [v.name for v in original.variables]
    old, new = weights_of(original), weights_of(rebuilt)
    assert len(new) == len(old) == len({id(weight.value) for weight in new})
    for weight, value in zip(new, old, strict=True):
        weight.assign(value)
    fresh = tf.nest.map_structure(tf.identity, x)
    np.testing.assert_allclose(rebuilt.log_prob(fresh, **keywords), expected, rtol=1e-5, atol=1e-6)
    assert to_config(rebuilt) == to_config(original)


def test_values_come_back_as_they_were():
    for value in (
        *(None, True, 3, "text", -0.5, [1, [2]], (1, (2.0,)), {"a": 1}, {"is": "mine"}, {2: "b", None: [()]}),
        *(slice(1, None, 2), tf.float64, tf.TensorShape([2, None]), tf.TensorShape(None), transformers.Affine(1.5)),
        *(np.float64(0.1), np.int32(7), np.bool_(True), tf.nn.relu, keras.activations.gelu, twice),
    ):
        restored = through_json(value)
        assert type(restored) is type(value)
        assert str(restored) == str(value)  # shapes of unknown rank are equal to nothing
    assert np.isnan(through_json(float("nan"))) and through_json(-np.inf) == -np.inf
    assert through_json(np.dtype("int8")) == through_json(np.int8) == tf.int8
    for array in (np.arange(6.0).reshape(2, 3).T, np.zeros([0, 2], bool), np.complex64([1 + 2j]), np.ones(2, ">f4")):
        restored = through_json(array)
        assert restored.dtype.name == array.dtype.name
        np.testing.assert_array_equal(restored, array)
    tensor = through_json(tf.constant([1.5, -2.0], tf.bfloat16))
    assert isinstance(tensor, tf.Tensor) and tensor.dtype == tf.bfloat16 and tensor.numpy().tolist() == [1.5, -2.0]
    variable = through_json(tf.Variable([1.0, 2.0], shape=[None], constraint=keras.constraints.NonNeg()))
    assert isinstance(variable.constraint, keras.constraints.NonNeg)
    assert variable.shape.as_list() == [None] and variable.numpy().tolist() == [1.0, 2.0]


def test_none_is_written_where_it_is_not_the_default():
    written = to_config(Forgetful(parameters={"scale": None, "shift": None}))["value"]["arguments"]
    assert written == {"scale": None}


def test_names_come_back_as_they_are():
    @tf.function
    def build():
        made.extend(tfb.Shift(1.0, name="shift") for _ in range(2))

    made = []
    build()  # inside a tf.function TFP makes names unique
    assert [through_json(bijector).name for bijector in made] == [bijector.name for bijector in made]
    assert made[0].name != made[1].name


def test_what_was_shared_is_shared():
    variable, layer = tf.Variable([1.0, 2.0]), keras.layers.Dense(4)
    shift = tfb.Shift(variable)
    couplings = [bijectors.Coupling(4, transformers.Affine(), conditioner=layer, name=name) for name in "ab"]
    chains = through_json([tfb.Chain([shift, tfb.Scale(variable), shift]), tfb.Chain(couplings), variable])

    first, scale, last = chains[0].bijectors
    assert first is last
    assert first.shift is scale.scale is chains[2]
    assert chains[1].bijectors[0].conditioner is chains[1].bijectors[1].conditioner
    assert len(chains[0].variables) == 1 and len(chains[1].variables) == 2


def test_equal_but_separate_variables_stay_separate():
    shift, scale = through_json([tf.Variable(1.0), tf.Variable(1.0)])
    assert shift is not scale


def test_random_orders_come_back_as_they_were_drawn():
    orders = set()
    for _ in range(10):
        network = tfb.AutoregressiveNetwork(2, event_shape=[6], hidden_units=[6], input_order="random", dtype="float64")
        network.build([None, 6])
        rebuilt = through_json(network)
        assert rebuilt.dtype == "float64"
        np.testing.assert_array_equal(rebuilt._input_order, network._input_order)
        for mask, expected in zip(rebuilt._masks, network._masks, strict=True):
            np.testing.assert_array_equal(mask, expected)
        orders.add(tuple(rebuilt._input_order))
    assert len(orders) > 1


def test_a_permutation_is_read_in_the_same_direction():
    original = bijectors.LULinear(5, permute=True, dtype="float64", seed=4)
    permutation = np.asarray(original.permutation)
    assert not np.array_equal(permutation, np.argsort(permutation))  # one that differs from its inverse
    raw = np.random.default_rng(0).normal(size=(5, 5))
    rebuilt = through_json(original)
    for linear in (original, rebuilt):
        linear.lower_upper.assign(raw)
        lower = np.tril(raw, -1) + np.eye(5)
        upper = np.triu(raw, 1) + np.diag(1e-3 + (1 - 1e-3) * np.log1p((np.e - 1) * np.exp(np.diag(raw))))
        # P takes the coordinate `permutation[k]` to place k.
        matrix = np.array([[float(j == permutation[k]) for j in range(5)] for k in range(5)]) @ lower @ upper
        z = np.random.default_rng(1).normal(size=(6, 5))
        np.testing.assert_allclose(linear.forward(z), z @ matrix.T, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(linear.inverse(z @ matrix.T), z, rtol=1e-10, atol=1e-10)


def test_keras_hands_the_configuration_on_untouched(tmp_path):
    variables = two_variables("a")
    Holder(variables).save(tmp_path / "model.keras")
    rebuilt = keras.saving.load_model(tmp_path / "model.keras").distribution
    assert to_config(rebuilt) == to_config(variables)


def named(x):
    return x


class Unregistered(tfb.Exp):
    pass


@keras.saving.register_keras_serializable(package="tests")
class Forgetful(tfb.Bijector):
    def __init__(self, scale=1.0, shift=None, parameters=None):
        super().__init__(forward_min_event_ndims=0, parameters=parameters)

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable(package="tests")
class Positional(Forgetful):
    def __init__(self, *scales):
        super().__init__(parameters=dict(locals()))


class UnregisteredLayer(keras.layers.Layer):
    pass


def inline(function):
    return tfb.Inline(forward_fn=function, forward_min_event_ndims=0)


def real_nvp(function):
    return tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=function)


REFUSED = {
    "lambda": (lambda: transformed(tfb.Chain([tfb.Exp(), inline(lambda x: x)]), 2), r"'bijector.bijectors\[1\].forwa"),
    "unregistered_function": (lambda: tfb.Invert(inline(named)), "'bijector.forward_fn': it could not be found"),
    "lambda_in_dictionary": (
        lambda: tfd.JointDistributionNamed({"a": normal(1), "b": lambda a: tfd.Normal(a, 1.0)}),
        "'model.b': a lambda has no name",
    ),
    "partial": (lambda: real_nvp(functools.partial(named)), "'shift_and_log_scale_fn': it has no configuration"),
    "template": (lambda: real_nvp(tfb.real_nvp_default_template([2])), "'shift_and_log_scale_fn': it has no config"),
    "generator": (lambda: (index for index in [1]), "'the object itself': it has no configuration"),
    "class": (lambda: {"cls": tfb.Exp}, "'cls': a class can be written only if it is a dtype"),
    "unregistered_class": (lambda: tfb.Invert(Unregistered()), "'bijector': the class Unregistered could not be found"),
    "no_parameters": (lambda: {"a": [Forgetful(2.0)]}, r"'a\[0\]': it keeps no `parameters`"),
    "other_parameters": (lambda: Positional(1.0), "'the object itself': its `parameters` are not .*'scales'"),
    "lambda_layer": (lambda: real_nvp(keras.layers.Lambda(lambda x: x)), "'shift_and_log_scale_fn': .*Lambda"),
    "lambda_activation": (lambda: real_nvp(keras.layers.Dense(2, activation=lambda x: x)), "fn': Keras .*lambda"),
    "unregistered_activation": (lambda: real_nvp(keras.layers.Dense(2, activation=named)), "it holds 'named'"),
    "function_of_a_function": (lambda: inline(keras.ops.custom_gradient), "'forward_fn': of the functions"),
    "configuration": (
        lambda: bijectors.RealNVP(2, activation=keras.saving.serialize_keras_object(keras.layers.LeakyReLU())),
        "configuration of a Keras object",
    ),
    "unregistered_layer": (lambda: real_nvp(keras.Sequential([UnregisteredLayer()])), "it holds 'UnregisteredLayer'"),
    "tf_keras_layer": (lambda: real_nvp(tf_keras.layers.Dense(2)), "of tf_keras only tfb.AutoregressiveNetwork"),
    "random_degrees": (
        lambda: tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(2, hidden_degrees="random")),
        "'shift_and_log_scale_fn': hidden_degrees='random'",
    ),
    "keras_variable": (lambda: {"loc": keras.Variable(0.0)}, "'loc': TFP takes a keras.Variable for a constant"),
    "text_array": (lambda: np.array(["a"]), "arrays of numbers"),
    "text_tensor": (lambda: {"a": (tf.constant("a"),)}, r"'a\[0\].value': arrays of numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_name_when_saving(case):
    make, message = REFUSED[case]
    with pytest.raises(TypeError, match=f"(?s)^Cannot save .*{message}.*Received: "):
        to_config(make())


def test_symbolic_tensors_are_refused():
    @tf.function
    def write(x):
        to_config(tfb.Shift(x))

    with pytest.raises(TypeError, match="Cannot save 'shift': a symbolic tensor has no value"):
        write(tf.constant(1.0))


@keras.saving.register_keras_serializable(package="tests")
class OwnProgram(keras.layers.TFSMLayer):
    """A subclass executes what its base class does."""


def layer(class_name, module="keras.layers", registered_name=None, **config):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def function(name, module="builtins", registered_name="function"):
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered_name}


SYSTEM = {"module": "os", "class_name": "system", "config": {}, "registered_name": None}
PROGRAM = layer("TFSMLayer", filepath="model")
HOSTILE_KERAS = [
    *(SYSTEM, layer("Popen", "subprocess", args="true"), layer("get_file", "keras.utils")),
    # One class, many names.
    *(PROGRAM, layer("layers.TFSMLayer", "keras", filepath="model")),
    *(layer("TFSMLayer", module, filepath="model") for module in ("keras.src.layers", "keras.src.export.tfsm_layer")),
    *(layer("TFSMLayer", "keras._tf_keras.keras.layers"), {"class_name": "TFSMLayer", "config": {"filepath": "model"}}),
    layer("OwnProgram", "tests", "tests>OwnProgram", filepath="model"),
    *(layer("TorchModuleWrapper", module="bytes"), layer("torch_utils.TorchModuleWrapper", "keras.src.utils")),
    *(layer("JaxLayer", call_fn="f"), layer("FlaxLayer"), layer("jax_layer.FlaxLayer", "keras.src.utils")),
    *(layer("Lambda", function=function("relu")), layer("Lambda", function={"class_name": "__lambda__", "config": ""})),
    *(layer("core.Lambda", "keras.src.layers"), layer("core.lambda_layer.Lambda", "keras.src.layers")),
    # What is no layer, nor stands in one.
    *(layer(name, "keras.callbacks", filepath="x") for name in ("ModelCheckpoint", "CSVLogger", "BackupAndRestore")),
    *(layer("ExportArchive", "keras.export"), layer("CustomObjectScope", "keras.saving"), layer("Variable", "keras")),
    *(layer("load_model", "keras.src.saving.saving_lib"), layer("KerasFileEditor", "keras.saving")),
    # The path of a file, or a URL, in the place of a list.
    *(layer(name, vocabulary="/etc/passwd") for name in ("StringLookup", "IntegerLookup", "TextVectorization")),
    layer("index_lookup.IndexLookup", "keras.src.layers.preprocessing", vocabulary="gs://bucket/vocabulary"),
    # Functions.
    *(function(name) for name in ("eval", "get", "deserialize", "serialize", "get_file", "vectorize", "ALL_OBJECTS")),
    *(function(name, "keras.activations") for name in ("get", "deserialize", "activations.get")),
    *(function("get", f"keras.{space}") for space in ("losses", "metrics", "src.activations", "layers")),
    *(function("get_file", "keras.utils"), function("load_model", "keras.saving"), function("system", "os")),
    *(function("activations.get", "keras"), function("import_module", "keras.src.saving.serialization_lib.importlib")),
    *(function("clear_session", "keras.backend"), function(["relu"]), {**function("relu"), "class_name": ["function"]}),
    # Words for values.
    *({"class_name": name, "config": {}} for name in ("__lambda__", "__typespec__", "__other__")),
]


def around(config):
    """A config in all the places where Keras reads one."""
    dense = layer("Dense", units=2)
    return [
        config,
        layer("Sequential", "keras", layers=[dense, config]),
        layer("Functional", "keras.src.models.functional", layers=[{**config, "inbound_nodes": []}], name="model"),
        layer("Bidirectional", layer={**layer("LSTM", units=2), "config": {"units": 2, "activation": config}}),
        layer("TimeDistributed", layer=config),
        layer("RNN", cell=[config]),
        layer("Dense", units=2, activation=config, kernel_initializer="zeros"),
        layer("Dense", units=2, kernel_initializer=config),
        layer("Dense", units=2, dtype=config),
        {**dense, "build_config": {"input_shape": [None, 2], "other": config}},
        {**dense, "compile_config": {"optimizer": "adam", "loss": config}},
        {"optimizer": layer("Adam", "keras.optimizers", learning_rate=config)},
        {"metrics": [layer("MeanMetricWrapper", "keras.metrics", fn=config)], "loss": "mse"},
    ]


@pytest.mark.parametrize("config", HOSTILE_KERAS, ids=lambda config: str(config)[:90])
def test_programs_and_files_are_refused_wherever_a_keras_config_holds_them(config):
    for whole in around(config):
        with pytest.raises(ValueError, match=r"(?s)^Expected layers and functions of Keras .* Received: "):
            check_keras(whole)


def test_what_keras_writes_is_read():
    inputs = keras.Input((4, 3))
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(2, dropout=0.1))(inputs)
    hidden = keras.ops.tanh(hidden) + keras.layers.Dense(4, kernel_initializer="zeros", dtype="mixed_float16")(hidden)
    network = keras.Model(inputs, keras.layers.Dense(2, activation="gelu", kernel_regularizer="l2")(hidden))
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 5)
    network.compile(keras.optimizers.Adam(schedule), loss="mse", metrics=["mae", keras.losses.mean_squared_error])
    check_keras(keras.saving.serialize_keras_object(network))
    for part in (
        keras.layers.StringLookup(vocabulary=["a", "b"]),
        keras.layers.Dense(2, activation=keras.activations.hard_swish, kernel_constraint="non_neg"),
        keras.layers.Dense(2, activation=twice, kernel_initializer=keras.initializers.Orthogonal(seed=1)),
        keras.Sequential([keras.Input((3, 2)), keras.layers.TimeDistributed(keras.layers.Dense(2))]),
    ):
        check_keras(keras.saving.serialize_keras_object(part))
    restored = through_json(network)
    x = np.ones([2, 4, 3], "float32")
    restored.set_weights(network.get_weights())
    np.testing.assert_allclose(restored(x), network(x), rtol=1e-4)


def in_object(path, **arguments):
    return {"is": "object", "class_path": path, "arguments": arguments}


def in_function(name):
    return {"is": "function", "name": name}


def in_keras(config):
    return {"is": "keras", "config": config}


def in_activation(activation):
    """An argument that Keras, or tf_keras, would make an object of by rules of its own, in all ways to write it."""
    as_dict, as_ordered_dict = (
        {"is": kind, "items": list(map(list, activation.items()))} for kind in ("dict", "ordered_dict")
    )
    network = "tensorflow_probability.bijectors.AutoregressiveNetwork"
    return [
        in_object("tfp_flows.bijectors.RealNVP", event_size=2, activation=activation),
        in_object(network, params=2, event_shape=[2], hidden_units=[4], activation=activation),
        in_object(network, params=2, event_shape=[2], kernel_initializer=as_dict),
        in_object("tf_keras.regularizers.L1L2", l1=as_ordered_dict),
        in_object("tests>Doubled", offset={"is": "tuple", "items": [[as_dict]]}),
    ]


MALICIOUS = [
    *map(in_object, ["os.system", "builtins.eval", "tensorflow.io.write_file", "tensorflow.Module", "Exp", "", None]),
    *map(in_object, ["tensorflow_probability.bijectors.os", "tensorflow_probability.distributions.RegisterKL"]),
    *map(in_object, ["tensorflow_probability.python.internal.test_util.main", "tensorflow.keras.layers.Lambda"]),
    *map(in_object, ["tests>twice", "tests>ShiftAndLogScale", "tf_keras.layers.Lambda", "tf_keras.initializers.get"]),
    *map(
        in_object,
        ["tfp_flows.bijectors.coupling", "tfp_flows.FlowModel", "tfp_flows>FlowModel", "tensorflow.data.Dataset"],
    ),
    *map(
        in_function, ["os.system", "eval", "tensorflow.io.read_file", "keras.utils.get_file", "tensorflow.py_function"]
    ),
    *map(in_function, ["tensorflow.nn.experimental", "tensorflow.nn.RNNCellDeviceWrapper", "tests>Doubled", None, []]),
    *map(in_function, ["keras.activations.get", "keras.activations.deserialize", "tf_keras.activations.deserialize"]),
    *map(in_function, ["keras.ops.custom_gradient", "keras.ops.map", "keras.ops.while_loop", "keras.ops.vectorize"]),
    *map(in_function, ["tensorflow.nn.fixed_unigram_candidate_sampler", "tensorflow.nn.with_space_to_batch"]),
    *map(in_function, ["tensorflow.math.__loader__", "keras.ops.__dict__", "tensorflow.nn.__builtins__.eval"]),
    *map(
        in_keras, [HOSTILE_KERAS[0], PROGRAM, layer("Dense", units=2, activation=function("get", "keras.activations"))]
    ),
    *in_activation(PROGRAM),
    *in_activation({"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}),
    in_object("tensorflow_probability.bijectors.Exp", no_such_argument=1),
    in_object("tfp_flows.bijectors.Bijector", event_size=2),
    {"is": "array", "dtype": "float32", "shape": [3], "bytes": "AAAA"},
    {"is": "array", "dtype": "string", "shape": [1], "bytes": "AAAAAAAAAAA="},
    {"is": "dtype", "name": "no dtype"},
    {"is": "tuple", "items": [1], "type_name": "x", "fields": ["__import__('os')"]},
    {"is": "object"},
    {"is": ["object"]},
    {"is": "pickle", "bytes": "gASVBQAAAAAAAAB9lC4="},
    {"is": "reference", "id": 3},
    {"is": "reference", "id": []},
    {"is": "reference"},
]


@pytest.mark.parametrize("config", MALICIOUS, ids=lambda config: str(config)[:80])
def test_nothing_but_known_classes_and_functions_is_looked_up(config):
    config = {**to_config(None), "value": [{"is": "tuple", "items": [config]}]}
    with pytest.raises(ValueError, match=r"(?s)^Expected .* Received: "):
        from_config(config)


def test_functions_that_may_be_called_take_neither_functions_nor_files():
    suspicious = {"f", "fn", "func", "function", "pyfunc", "op", "body", "identifier", "config", "vocab_file", "path"}
    for name, namespace in FUNCTIONS.items():
        allowed = [attribute for attribute in vars(namespace).values() if is_function_of_a_tensor(attribute)]
        assert allowed, name
        for allowed_function in allowed:
            assert suspicious.isdisjoint(inspect.signature(allowed_function).parameters), allowed_function


def tampered(path, old, new):
    """Rewrites the config in a .keras file, as somebody who means harm would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old.encode() in members["config.json"]
    members["config.json"] = members["config.json"].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_tampered_file_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.layers.TFSMLayer, "__init__", lambda *args, **kwargs: pytest.fail("it was made"))
    for written, replaced in [
        ('"activation": "tanh"', f'"activation": {json.dumps(PROGRAM)}'),
        ('"activation": "gelu"', f'"activation": {json.dumps(PROGRAM)}'),
        ('"activation": "gelu"', f'"activation": {json.dumps(function("get", "keras.activations"))}'),
    ]:
        conditioner = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="gelu")])
        chain = tfb.Chain(
            [
                bijectors.RealNVP(2, hidden_units=(4,), activation="tanh"),
                bijectors.Coupling(2, transformers.Affine(), conditioner=conditioner),
            ]
        )
        path = tmp_path / "flow.keras"
        Holder(transformed(chain, 2)).save(path)
        keras.saving.load_model(path)
        tampered(path, written, replaced)
        with pytest.raises(ValueError, match="Expected"):
            keras.saving.load_model(path)


@pytest.mark.parametrize(
    "config",
    [None, {}, {"version": 1}, {"format": "another", "version": 1, "value": 1}, {"format": "tfp_flows", "version": 1}],
)
def test_other_formats_are_refused(config):
    with pytest.raises(ValueError, match="Expected a configuration that `to_config` wrote"):
        from_config(config)


def test_other_versions_are_refused():
    with pytest.raises(ValueError, match=r"Expected version 1 .* Received: version 2"):
        from_config({**to_config(tfb.Exp()), "version": 2})
