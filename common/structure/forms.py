"""Numbers that may change with a cut, written as what they count.

After a cut a network's own code runs again, so a number in it is right only if it
changes with the channels that it counts.  A number is kept as linear forms: a constant,
plus shares of the positions that are left of labels, plus shares of integer attributes
of modules.  A product and a quotient of two such numbers have several readings, each
right under conditions of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fedprune.common.structure.parts import FreeLength

_MOST = 4  # readings of one number; more are not followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An integer attribute of a module.

    Attributes:
        module: Dotted module name.
        name: Attribute, or an item of one: "num_heads", "sizes[1]".
        value: Its value in the dense network.
    """

    module: str
    name: str
    value: int

    @property
    def key(self) -> tuple[str, str]:
        """Module and attribute."""
        return self.module, self.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Form:
    """One reading of a number: a constant plus what it lists.

    Attributes:
        counts: Labels and the share of the positions left of them.
        places: Attributes and the share of their value.
        whole: Forms that must stay whole numbers, since code divides by ``//``.
        constant: Forms that must never change.
    """

    counts: tuple[tuple[NDArray[np.int64], Fraction], ...] = ()
    places: tuple[tuple[Place, Fraction], ...] = ()
    whole: tuple["Form", ...] = ()
    constant: tuple["Form", ...] = ()

    @property
    def moves(self) -> bool:
        """True where a cut may change it, or where it has conditions."""
        return bool(self.counts or self.places or self.whole or self.constant)

    def times(self, factor: Fraction) -> "Form":
        """Return this form ``factor`` times, under the same conditions."""
        return replace(
            self,
            counts=tuple((labels, r * factor) for labels, r in self.counts),
            places=tuple((place, r * factor) for place, r in self.places),
        )

    def plus(self, other: "Form") -> "Form":
        """Return the sum of both, under the conditions of both."""
        return Form(
            counts=self.counts + other.counts,
            places=self.places + other.places,
            whole=self.whole + other.whole,
            constant=self.constant + other.constant,
        )

    def bare(self) -> "Form":
        """Return it without its conditions."""
        return Form(counts=self.counts, places=self.places)

    def given(
        self, *, whole: Iterable["Form"] = (), constant: Iterable["Form"] = ()
    ) -> "Form":
        """Return it under further conditions."""
        return replace(
            self, whole=(*self.whole, *whole), constant=(*self.constant, *constant)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Length:
    """A number of a network's own code that may change with a cut.

    Attributes:
        number: Its value for the example.
        forms: Its readings; each alone is right.
    """

    number: int
    forms: tuple[Form, ...]

    @staticmethod
    def of(labels: NDArray[np.int64]) -> "Length":
        """Return the number of positions that have labels."""
        form = Form(counts=((labels, Fraction(1)),))
        return Length(number=len(labels), forms=(form,))

    @staticmethod
    def constant(number: int) -> "Length":
        """Return a number that never changes."""
        return Length(number=number, forms=(Form(),))

    @property
    def moves(self) -> bool:
        """True where a cut may change it."""
        return any(form.moves for form in self.forms)

    @property
    def is_above_0(self) -> bool:
        """True where it is above 0 after any cut, as the size of a value is."""
        return any(self._is_above_0(form) for form in self.forms)

    def _is_above_0(self, form: Form) -> bool:
        shares = [(len(labels), share) for labels, share in form.counts]
        shares += [(place.value, share) for place, share in form.places]
        rest = self.number - sum(number * share for number, share in shares)
        rises = shares and rest >= 0 and all(share > 0 for _, share in shares)
        return bool(rises and not (form.whole or form.constant))

    def scaled(self, factor: int) -> "Length":
        """Return it ``factor`` times."""
        forms = tuple(form.times(Fraction(factor)) for form in self.forms)
        return Length(number=self.number * factor, forms=forms)

    def plus(self, other: "Length") -> "Length | None":
        """Return the sum, or None where it has too many readings."""
        forms = [one.plus(two) for one, two in product(self.forms, other.forms)]
        return _length(self.number + other.number, forms)

    def minus(self, other: "Length") -> "Length | None":
        """Return the difference, or None where it has too many readings."""
        return self.plus(other.scaled(-1))

    def times(self, other: "Length") -> "Length | None":
        """Return the product: one factor may change, and the other must not."""
        if not other.moves:
            return self.scaled(other.number)
        if not self.moves:
            return other.scaled(self.number)
        forms = [
            form.given(constant=factor.sources())
            for one, factor in ((self, other), (other, self))
            for form in one.scaled(factor.number).forms
        ]
        return _length(self.number * other.number, forms)

    def over(self, other: "Length") -> "Length | None":
        """Return the exact quotient, or None where it has a rest."""
        if not other.number or self.number % other.number:
            return None
        share = Fraction(1, other.number)
        forms = []
        for form in self.forms:
            part = form.times(share)
            forms.append(part.given(whole=[part.bare()], constant=other.sources()))
        if other.moves:
            forms += self._proportional(other)
        return _length(self.number // other.number, forms)

    def rest(self, other: "Length") -> "Length | None":
        """Return the rest of the division, or None where it is not 0."""
        if not other.number or self.number % other.number:
            return None
        share = Fraction(1, other.number)
        forms = [
            replace(form, counts=(), places=()).given(
                whole=[form.times(share).bare()], constant=other.sources()
            )
            for form in self.forms
        ]
        if other.moves:
            forms += self._proportional(other)
        return _length(0, forms)

    def sources(self) -> tuple[Form, ...]:
        """Return all that it is calculated from, one form each."""
        found: list[Form] = []
        for form in self.forms:
            found += [Form(counts=((row, Fraction(1)),)) for row, _ in form.counts]
            found += [Form(places=((place, Fraction(1)),)) for place, _ in form.places]
            found += form.constant
        return tuple(found)

    def _proportional(self, other: "Length") -> list[Form]:
        """Return the readings in which both change alike: the quotient never does."""
        ratio = Fraction(-self.number, other.number)
        return [
            Form(
                whole=one.whole + two.whole,
                constant=(
                    *one.constant,
                    *two.constant,
                    one.bare().plus(two.bare().times(ratio)),
                ),
            )
            for one, two in product(self.forms, other.forms)
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """A condition on a number after any cut; where it fails, its channels stay.

    Attributes:
        length: The number.
        labels: It must count what is left of these; None = it must never change.
        why: Why its channels stay where it does not, for the note.
        free: The length of a reshape that it is, which a cut network can leave to torch
            where the claim fails, or None.
        written: Whether nothing is made to follow for the claim's sake.
    """

    length: Length
    labels: NDArray[np.int64] | None
    why: str
    free: FreeLength | None = None
    written: bool = False


def _length(number: int, forms: list[Form]) -> Length | None:
    return Length(number=number, forms=tuple(forms)) if len(forms) <= _MOST else None
