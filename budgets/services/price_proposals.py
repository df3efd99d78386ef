"""Prices proposed for the book: an operator approves or rejects each, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, transaction

from budgets.models import PriceModel, PriceProposal, PriceProvider, ProposalState
from budgets.services.prices import BadPrice, NewPrice, add_price, first_start
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing


class InvalidProposal(Invalid):
    """A proposal that breaks rules, or cannot be decided so; `errors` names every reason."""


class ProposalNotFound(Missing):
    """There is no such proposal."""


@dataclass(frozen=True, kw_only=True)
class NewProposal:
    """USD for one unit of a model from a time on. `new_model` says that the provider did not have the model so far."""

    provider: str
    model: str
    unit: str
    price: Decimal | str
    effective_from: datetime
    source: str
    variant: str = ""
    tier_start: int = 0
    new_model: bool = False
    note: str = ""

    def errors(self, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        price = NewPrice(
            provider=self.provider,
            model=self.model,
            unit=self.unit,
            price=self.price,
            effective_from=self.effective_from,
            source=self.source,
            checked_at=now,
            variant=self.variant,
            tier_start=self.tier_start,
        )
        errors = [FieldError(field, message) for field, message in price.errors.items()]
        if len(self.note) > 500:
            errors.append(FieldError("note", "must have at most 500 characters"))
        if errors:
            return errors
        if not PriceProvider.objects.filter(pk=self.provider).exists():
            errors.append(FieldError("provider", "is not in the price book"))
        elif (
            not self.new_model
            and not PriceModel.objects.filter(provider_id=self.provider, model=self.model).exists()
        ):
            errors.append(
                FieldError("model", f"is not a model of {self.provider}; say that it is new to add it")
            )
        return errors


def propose(*, proposal: NewProposal, actor: str, now: datetime) -> PriceProposal:
    """Lays a price before the operators. Raises InvalidProposal, also when the same one is waiting already."""
    if errors := proposal.errors(now):
        raise InvalidProposal(errors)
    try:
        with transaction.atomic():
            return PriceProposal.objects.create(
                id=ids.new_uuid(now),
                provider=proposal.provider,
                model=proposal.model,
                variant=proposal.variant,
                unit=proposal.unit,
                tier_start=proposal.tier_start,
                price=Decimal(proposal.price),
                effective_from=proposal.effective_from,
                source=proposal.source,
                new_model=proposal.new_model,
                proposed_by=actor,
                proposed_at=now,
                note=proposal.note,
            )
    except IntegrityError as error:
        if "price_proposals_open_once" not in str(error):
            raise
        raise InvalidProposal(
            [
                FieldError(
                    "effective_from", "another price for this from then on is waiting: decide that first"
                )
            ]
        ) from error


def approve(*, proposal_id: UUID, actor: str, now: datetime) -> PriceProposal:
    """Appends the proposed price to the book, ending the open one where it starts, and returns the decided proposal.

    A start that has passed meanwhile becomes now, and a minute from now where the price ends another: calls were
    priced without it. Raises ProposalNotFound, and InvalidProposal when it was decided already or the book does not
    take the price.
    """
    with transaction.atomic():
        proposal = _undecided(proposal_id)
        try:
            row = add_price(
                price=NewPrice(
                    provider=proposal.provider,
                    model=proposal.model,
                    variant=proposal.variant,
                    unit=proposal.unit,
                    tier_start=proposal.tier_start,
                    price=proposal.price,
                    effective_from=first_start(
                        provider=proposal.provider,
                        model=proposal.model,
                        variant=proposal.variant,
                        unit=proposal.unit,
                        tier_start=proposal.tier_start,
                        wanted=proposal.effective_from,
                        now=now,
                    ),
                    source=proposal.source,
                    checked_at=now,
                ),
                now=now,
                new_model=proposal.new_model,
                close_open=True,
            )
        except BadPrice as bad:
            raise InvalidProposal(
                [FieldError(field, message) for field, message in bad.errors.items()]
            ) from bad
        proposal.state, proposal.price_row = ProposalState.APPROVED, row
        return _decided(proposal, actor, now)


def reject(*, proposal_id: UUID, actor: str, now: datetime, note: str = "") -> PriceProposal:
    """Turns a proposal down and returns it. Raises ProposalNotFound, InvalidProposal when it was decided already."""
    if len(note) > 500:
        raise InvalidProposal([FieldError("note", "must have at most 500 characters")])
    with transaction.atomic():
        proposal = _undecided(proposal_id)
        proposal.state = ProposalState.REJECTED
        if note:
            proposal.note = note
        return _decided(proposal, actor, now)


def _undecided(proposal_id: UUID) -> PriceProposal:
    """Locks a proposal, so that two operators decide one after the other."""
    proposal = PriceProposal.objects.select_for_update().filter(pk=proposal_id).first()
    if proposal is None:
        raise ProposalNotFound(str(proposal_id))
    if proposal.state != ProposalState.PROPOSED:
        raise InvalidProposal(
            [FieldError("proposal", f"was {proposal.state} by {proposal.decided_by} already")]
        )
    return proposal


def _decided(proposal: PriceProposal, actor: str, now: datetime) -> PriceProposal:
    proposal.decided_by, proposal.decided_at = actor, now
    proposal.save(update_fields=["state", "decided_by", "decided_at", "note", "price_row"])
    return proposal
