"""Networks with a temperature of attention."""

import pytest
import torch

from rankdeficit.control import attention_temperatures
from real_nets.models import Architecture


def vit(**options: object) -> Architecture:
    return Architecture("vit", 4, (3, 8, 8), width=8, depth=2, **options)  # type: ignore[arg-type]


def test_a_vit_has_it_in_every_block_and_no_other_weights() -> None:
    plain, hot = vit().build(0), vit(attention_temperature=4.0).build(0)
    assert attention_temperatures(plain) == {}
    found = attention_temperatures(hot)
    assert [own.tolist() for own in found.values()] == [[4.0]] * 2
    count = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in hot.parameters()) == count
    learned = vit(attention_temperature=4.0, learned_attention=True).build(0)
    assert sum(p.numel() for p in learned.parameters()) == count + 2
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(hot(images), learned(images))
        assert not torch.allclose(hot(images), plain(images))
        torch.testing.assert_close(vit(learned_attention=True).build(0)(images), plain(images))


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="attention_temperature is 0"):
        vit(attention_temperature=0.0)
    with pytest.raises(ValueError, match="attention"):
        Architecture("mlp", 4, (3, 8, 8), attention_temperature=2.0).build(0)
