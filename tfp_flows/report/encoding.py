"""Columns of any kind as floats, for checks that compare numbers."""

import numpy as np


class Encoder:
    """Numbers as they are, dates in days since 1970, categories as numbers of their own; missing values are NaN.

    Arguments:
      frames: all that will be encoded, so that no category is unknown.
      categories: the names of the columns that hold categories, beside those of text.
    """

    def __init__(self, frames, categories=()):
        import pandas as pd

        self.names = list(frames[0].columns)
        self.categories, self.dates = {}, set()
        for name in self.names:
            columns = pd.concat([frame[name].astype(object) for frame in frames]).dropna()
            is_number = all(pd.api.types.is_numeric_dtype(frame[name].dtype) for frame in frames)
            is_date = all(pd.api.types.is_datetime64_any_dtype(frame[name].dtype) for frame in frames)
            if is_date:
                self.dates.add(name)
            if name in categories or not (is_number or is_date):
                self.categories[name] = sorted(columns.unique(), key=str)
        self.is_category = np.array([name in self.categories for name in self.names], bool)

    def __call__(self, frame):
        """`[n, D]` float64."""
        import pandas as pd

        columns = []
        for name in self.names:
            column = frame[name]
            if name in self.categories:
                codes = pd.Categorical(column.astype(object), categories=self.categories[name]).codes.astype(np.float64)
                columns.append(np.where(codes < 0, np.nan, codes))
            elif pd.api.types.is_datetime64_any_dtype(column.dtype):
                days = (column - pd.Timestamp(0, tz=column.dt.tz)) / pd.Timedelta(days=1)
                columns.append(days.to_numpy(np.float64, na_value=np.nan))
            else:
                columns.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.stack(columns, 1) if columns else np.zeros([len(frame), 0])
