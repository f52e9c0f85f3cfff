"""What a linear model says of named features: a probability, by the same steps as River's StandardScaler and LogisticRegression.

    z = intercept + Σ weight_i · (sign_i · f(x_i) - mean_i) / deviation_i        over the features that are there
    f(x) = sign(x) · ln(1 + |x|)
    probability = 1 / (1 + e^-z); 0 below z = -30 and 1 above 30

A feature whose deviation is 0 never differed, and adds nothing.
"""

from array import array

from libc.math cimport copysign, exp, fabs, isfinite, log1p

cdef double Z_MAX = 30.0


cdef class Linear:
    """A model whose terms are known; one for each name that may be asked for."""

    cdef dict places
    cdef double intercept
    cdef double[::1] signs, means, deviations, weights

    def __init__(self, dict terms, double intercept):
        """`terms`: by name (sign, mean, deviation, weight)."""
        self.places = {name: place for place, name in enumerate(terms)}
        self.intercept = intercept
        # A view of nothing has no first element.
        columns = list(zip(*terms.values(), strict=True)) or [(0.0,)] * 4
        self.signs, self.means, self.deviations, self.weights = [array("d", column) for column in columns]

    def probability(self, dict features):
        """The probability; None: a name is none of the model's, or a value no finite number.

        >>> model = Linear({"views": (1.0, 0.0, 0.5, 2.0)}, 0.0)
        >>> model.probability({}), model.probability({"views": 0.0}), model.probability({"views": 1e300})
        (0.5, 0.5, 1.0)
        >>> model.probability({"other": 1.0}), model.probability({"views": float("nan")})
        (None, None)
        """
        cdef double z = self.intercept, value
        cdef Py_ssize_t place
        cdef object found
        for name, number in features.items():
            found = self.places.get(name)
            if found is None:
                return None
            value = number
            if not isfinite(value):
                return None
            place = found
            if self.deviations[place] != 0.0:
                value = self.signs[place] * copysign(log1p(fabs(value)), value)
                z += (value - self.means[place]) / self.deviations[place] * self.weights[place]
        if z < -Z_MAX:
            return 0.0
        if z > Z_MAX:
            return 1.0
        return 1.0 / (1.0 + exp(-z))
