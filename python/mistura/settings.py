"""The resolved run file of a run, as a trainer reads it: `island.run.train.peak_rate`."""

from __future__ import annotations

from typing import Any


class Settings(dict[str, Any]):
    """The resolved run file; keys are attributes too."""

    def __getattr__(self, key: str) -> Any:
        try:
            return wrap(self[key])
        except KeyError:
            raise AttributeError(f"the run has no {key}") from None


def wrap(value: Any) -> Any:
    """Mappings with attributes, however deep."""
    if isinstance(value, dict) and not isinstance(value, Settings):
        return Settings(value)
    return [wrap(v) for v in value] if isinstance(value, list) else value
