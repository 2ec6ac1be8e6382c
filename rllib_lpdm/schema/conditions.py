"""Settings for some of the cells: which ones, and what they have."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from rllib_lpdm.schema.catalogue import AlgorithmName, MethodName


class When(BaseModel):
    """Which cells something applies to; what is left out matches all."""

    model_config = ConfigDict(extra="forbid")

    environment: str | list[str] | None = None
    algorithm: AlgorithmName | list[AlgorithmName] | None = None
    method: MethodName | list[MethodName] | None = None
    variant: str | list[str] | None = None

    def matches(
        self, environment: str, algorithm: str, method: str, variant: str | None = None
    ) -> bool:
        pairs = zip(
            (self.environment, self.algorithm, self.method, self.variant),
            (environment, algorithm, method, variant),
            strict=True,
        )
        return all(
            wanted is None or actual == wanted or (isinstance(wanted, list) and actual in wanted)
            for wanted, actual in pairs
        )


class Override(BaseModel):
    """Settings for some of the cells."""

    model_config = ConfigDict(extra="forbid")

    when: When
    set: dict[str, Any]
