"""Settle what is claimed of numbers in a network's code, when all of it is known.

A claim that does not hold fixes all channels that it speaks of.  Every claim is about
each unit by itself, so fixing more never breaks another one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fedprune.common.structure.forms import Claim, Form, Place
from fedprune.common.structure.labels import Follower, Labelling, Labels
from fedprune.common.structure.parts import Attribute
from fedprune.common.structure.sizes import follow_place

Weights = dict[int, Fraction]
Counts = tuple[tuple[Labels, Fraction], ...]


def settle(labelling: Labelling) -> None:
    """Let attributes follow where that makes a claim true; fix the rest."""
    layers = {(item.module, item.name): item for item in labelling.attributes}
    settling = _Settling(labelling=labelling, layers=layers)
    settling.leave_to_layers()
    done = 0
    while done < len(labelling.claims):  # a claim may add others
        claim = labelling.claims[done]
        if not settling.holds(claim):
            settling.help(claim)
        done += 1
    changed = True
    while changed:
        broken = [c for c in labelling.claims if not settling.holds(c)]
        fixed = [settling.fix(claim) for claim in broken]
        changed = any(fixed) or settling.fix_parts()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Settling:
    """The claims of a labelling, and what decides about them.

    Attributes:
        labelling: The labelling of the whole network.
        layers: What the rules of layers let attributes follow, by module and name.
        freed: Claims on lengths that are left to torch, by identity.
    """

    labelling: Labelling
    layers: Mapping[tuple[str, str], Attribute]
    freed: set[int] = field(default_factory=set)

    def leave_to_layers(self) -> None:
        """Let the rule of a layer alone say what its attributes follow."""
        for key, item in self.layers.items():
            known = self.labelling.followers.pop(key, None)
            if known is None:
                continue
            labels = self.labelling.dims.get((item.tensor, item.dim))
            ratio = Fraction(1, item.divisor)
            if labels is None or not self._alike(known, labels, ratio):
                why = f"'{item.name}' of module '{item.module}' stands for two lengths"
                self.labelling.fix(known.labels, why)
                self.labelling.fix(labels, why)

    def _alike(self, known: Follower, labels: Labels, ratio: Fraction) -> bool:
        """Return whether labels change as what is followed does, by a union maybe."""
        if known.ratio == ratio and len(known.labels) == len(labels):
            self.labelling.union(known.labels, labels)
        one = self._weigh(((known.labels, known.ratio),))
        return one == self._weigh(((labels, ratio),))

    def holds(self, claim: Claim) -> bool:
        """Return whether one reading of the number is what is claimed."""
        if id(claim) in self.freed:
            return True
        wanted: Weights = {}
        if claim.labels is not None:
            wanted = self._weigh(((claim.labels, Fraction(1)),))
        return any(
            self._weights(form) == wanted and self._is_valid(form)
            for form in claim.length.forms
        )

    def _is_valid(self, form: Form) -> bool:
        """Return whether the conditions of a form hold."""
        whole = all(
            share.denominator == 1
            for item in form.whole
            for share in self._weights(item).values()
        )
        return whole and not any(self._weights(item) for item in form.constant)

    def _weights(self, form: Form) -> Weights:
        """Return what each unit adds to a number, without those that add nothing."""
        counts = [*form.counts]
        for place, share in form.places:
            counts += [(row, share * ratio) for row, ratio in self._followed(place)]
        return self._weigh(tuple(counts))

    def _weigh(self, counts: Counts) -> Weights:
        found: Weights = {}
        for labels, ratio in counts:
            positions = Counter(self.labelling.roots(labels).tolist())
            shares = {count: count * ratio for count in set(positions.values())}
            for root, count in positions.items():
                if root >= 0:
                    found[root] = found.get(root, 0) + shares[count]
        return {root: share for root, share in found.items() if share}

    def _followed(self, place: Place) -> Counts:
        """Return the labels that an attribute follows, with its share, if any."""
        known = self.labelling.followers.get(place.key)
        if known is not None:
            return ((known.labels, known.ratio),)
        item = self.layers.get(place.key)
        if item is None:
            return ()
        labels = self.labelling.dims.get((item.tensor, item.dim))
        return () if labels is None else ((labels, Fraction(1, item.divisor)),)

    def _is_free(self, place: Place) -> bool:
        """Return whether an attribute follows nothing yet, and may."""
        return self.labelling.may_follow(place) and not self._followed(place)

    def help(self, claim: Claim) -> None:
        """Make a claim true by a union or by attributes that follow, if that can be."""
        if claim.written or (claim.free is not None and self._fixes(claim)):
            return
        for form in claim.length.forms:
            if claim.labels is None:
                for item in (*form.constant, form.bare()):
                    self._balance(item)
            elif not any(self._weights(item) for item in form.constant):
                self._count(form, claim.labels, claim.why)
            if self.holds(claim):
                return

    def _fixes(self, claim: Claim) -> bool:
        """Return whether a union for a claim would fix labels that may be cut."""
        rows = [] if claim.labels is None else [claim.labels]
        rows += [row for form in claim.length.forms for row, _ in form.counts]
        return any((self.labelling.roots(row) < 0).any() for row in rows)

    def _count(self, form: Form, labels: Labels, why: str) -> None:
        """Let a number count labels: a union, or each part of a sum a run of them."""
        known = [*form.counts]
        for place, share in form.places:
            known += [(row, share * ratio) for row, ratio in self._followed(place)]
        if len(form.counts) + len(form.places) == len(known) == 1:
            row, share = known[0]
            if share == 1 and len(row) == len(labels):
                self.labelling.union(row, labels)
            return
        sizes = [place.value * share for place, share in form.places]
        if form.counts or sum(sizes) != len(labels) or min(sizes) < 1:
            return
        start = 0
        for (place, share), size in zip(form.places, sizes, strict=True):
            end = start + int(size)
            if size.denominator == 1 and self._is_free(place):
                follow_place(self.labelling, (place, share), labels[start:end], why)
            start = end

    def _balance(self, form: Form) -> None:
        """Let the one free attribute of a difference follow what the other does."""
        free = [item for item in form.places if self._is_free(item[0])]
        known = [*form.counts]
        for place, share in form.places:
            known += [(row, share * ratio) for row, ratio in self._followed(place)]
        if len(free) != 1 or len(known) != 1:
            return
        (place, mine), (labels, share) = free[0], known[0]
        ratio = -share / mine
        weights = self._weigh(((labels, ratio),)).values()
        whole = all(weight.denominator == 1 for weight in weights)
        if ratio > 0 and whole and place.value == ratio * len(labels):
            why = f"'{place.name}' of module '{place.module}' stands for two lengths"
            follow_place(self.labelling, (place, 1 / ratio), labels, why)

    def fix_parts(self) -> bool:
        """Fix what an attribute counts a part of; return whether there was any."""
        found = False
        for item in self.labelling.followers.values():
            weights = self._weigh(((item.labels, item.ratio),)).values()
            if any(weight.denominator != 1 for weight in weights):
                why = f"'{item.name}' of module '{item.module}' counts parts of units"
                self.labelling.fix(item.labels, why)
                found = True
        return found

    def fix(self, claim: Claim) -> bool:
        """Leave a length to torch, or never cut what a claim speaks of.

        Returns:
            Whether that changes anything.
        """
        rows = [] if claim.labels is None else [claim.labels]
        for form in claim.length.forms:
            for item in (form, *form.whole, *form.constant):
                rows += [labels for labels, _ in item.counts]
                for place, _ in item.places:
                    rows += [labels for labels, _ in self._followed(place)]
        loose = [row for row in rows if (self.labelling.roots(row) >= 0).any()]
        if loose and claim.free is not None and self.labelling.free(claim.free, loose):
            self.freed.add(id(claim))
            return True
        for row in loose:
            self.labelling.fix(row, claim.why)
        return bool(loose)
