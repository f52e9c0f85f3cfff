"""The command `models`: how good the models are that offers are decided by."""

import asyncio

import click
from msgspec import to_builtins

from tillstream.commands import JSON, print_json
from tillstream.config import Config, load_config
from tillstream.errors import CheckFailed, UsageError
from tillstream.schemas.mistakes import nearest
from tillstream.schemas.models_status import ModelsStatus


@click.group(epilog="Example: tillstream models status --offer cheese-now")
def models() -> None:
    """Models that say how likely a member takes an offer."""


@models.command(epilog="Example: tillstream models status --offer cheese-now --json")
@click.option("--offer", metavar="O", help="Of this offer only.")
@JSON
def status(offer: str | None, as_json: bool) -> None:
    """By offer: champion and challengers with their figures, promotions, drift, uplift; as of the learner's latest checkpoint.

    Exit status 1: the checkpoint is not used, because another installation or version wrote it.
    """
    found = asyncio.run(read_status(load_config()))
    shown = found if offer is None else of_offer(found, offer)
    if as_json:
        print_json(to_builtins(shown))
        return
    from tillstream.models_screen import show_models

    show_models(shown)


def of_offer(found: ModelsStatus, offer: str) -> ModelsStatus:
    """The status of one offer; raises UsageError where it has no models."""
    names = [one.offer_id for one in found.offers]
    if offer not in names:
        hint = nearest(offer, names, "tillstream models status lists all that were decided on")
        raise UsageError(f"--offer: no decision on an offer {offer!r} was learned from; {hint}")
    return ModelsStatus(found.checkpoint, [one for one in found.offers if one.offer_id == offer])


async def read_status(config: Config) -> ModelsStatus:
    """What the latest checkpoint says, if it is signed by this installation.

    Raises:
        UsageError: `identity_key` is missing.
        UnreachableError: Redis does not answer.
        CheckFailed: the checkpoint is not to be read.
    """
    from tillstream.models.checkpoints import CheckpointRefused, Signer
    from tillstream.models.status import status_of
    from tillstream.servers import check_identity_key, redis_of
    from tillstream.sinks.checkpoints import CheckpointStore

    check_identity_key(config)
    async with redis_of(config) as client:
        store = CheckpointStore(client)
        stored, age_s = await store.load(), await store.age_s()
    if stored is None:
        return ModelsStatus(None, [])
    try:
        learner, offset = Signer(config.identity_key.encode()).unpack(stored.checkpoint)
    except CheckpointRefused as refused:
        raise CheckFailed(str(refused)) from None
    return status_of(learner, offset, age_s or 0.0)
