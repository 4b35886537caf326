"""Networks of many kinds are diagnosed, or refused by name: NETWORKS.md tells which."""

import pytest

from tests.rankdeficit.diagnostics.architectures import listing, zoo


@pytest.mark.slow
@pytest.mark.parametrize("kind", listing.TABLES)
def test_outcomes_are_as_the_tables_tell(kind: str) -> None:
    assert listing.table(kind) == listing.written(kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "kind"), list(zoo.told()))
def test_networks_of_timm_and_torchvision_are_diagnosed_or_refused(name: str, kind: str) -> None:
    """Takes a quarter of an hour."""
    assert zoo.outcome(name).partition(": ")[0] == kind


def test_recurrent_networks_are_diagnosed() -> None:
    made = dict(listing.plain_torch())
    for name in ("LSTM cell in a loop", "two towers"):
        assert listing.outcome(*made[name]()).startswith("2 layers"), name
