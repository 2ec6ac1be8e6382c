"""What a search found, written beside its cells: ``search.json`` and ``tuned.yaml``."""

import math
import os
from typing import Any

import numpy as np
import yaml

from rllib_lpdm.results.layout import SEARCH_FILE, TUNED_FILE
from rllib_lpdm.results.search_record import Configuration, SearchedCell, SearchRecord, StudyRecord
from rllib_lpdm.results.storage import is_remote, write_whole
from rllib_lpdm.schema.messages import counted, figure, listed, one_line
from rllib_lpdm.schema.search_section import Calibration, LowerBound
from rllib_lpdm.searches.choice import Ranked, choose
from rllib_lpdm.searches.generations import Progression, Trial, Trials
from rllib_lpdm.searches.studies import Study, Values, configuration_name

DEFAULT, TUNED = "reference", "tuned"  # variants of tuned.yaml


def record_of(progression: Progression) -> SearchRecord:
    """The record of a search whose cells have all ended."""
    section = progression.search.section
    studies = [
        _study(trials, progression.search.defaults(trials.study)) for trials in progression.trials
    ]
    cells = [c for study in studies for each in study.configurations for c in each.cells]
    criterion = section.criterion
    return SearchRecord(
        name=progression.search.experiment.name,
        proposer=section.proposer,
        criterion=(
            criterion.model_dump() if isinstance(criterion, LowerBound | Calibration) else criterion
        ),
        seeds=section.all_seeds,
        space={
            name: dimension.model_dump(mode="json", exclude_none=True)
            for name, dimension in section.space.items()
        },
        rungs=[*progression.rungs, *([1.0] if section.more_seeds else [])],
        studies=studies,
        env_steps=sum(cell.env_steps for cell in cells),
        cpu_hours=math.fsum(cell.cpu_hours for cell in cells),
    )


def _study(trials: Trials, defaults: Values) -> StudyRecord:
    study = trials.study
    configurations = [
        _configuration(study, trial, defaults) for _, trial in sorted(trials.by_number.items())
    ]
    last = trials.last
    distances = {each.number: each.distance for each in configurations}
    choice = choose(
        Ranked(np.array([trial.score for trial in last]), trials.noise),
        np.array([distances[trial.number] for trial in last]),
    )
    each = dict(study.each)
    if choice is None:  # no cell came to its end
        return StudyRecord(
            each=each,
            configurations=configurations,
            best=None,
            noise=0.0,
            tied=[],
            winner=0,
            margin=None,
            over_default=None,
        )
    winner = last[choice.winner]
    default = next((trial.score for trial in last if trial.number == 0), None)
    return StudyRecord(
        each=each,
        configurations=configurations,
        best=last[choice.best].number,
        noise=trials.noise,
        tied=[last[index].number for index in choice.tied],
        winner=winner.number,
        margin=choice.margin,
        over_default=None if default is None else winner.score - default,
    )


def _configuration(study: Study, trial: Trial, defaults: Values) -> Configuration:
    values = trial.values or defaults
    places = {
        name: place
        for name, value in values.items()
        if (place := study.space[name].place(value)) is not None
    }
    distance = 0.0
    if trial.number:
        distance = sum(
            dimension.distance(values[name], defaults[name]) if name in defaults else 1.0
            for name, dimension in study.space.items()
        ) / len(study.space)
    return Configuration(
        number=trial.number,
        name=configuration_name(trial.number),
        values=values,
        places=places,
        rung=trial.rung,
        score=None if math.isnan(trial.score) else trial.score,
        distance=distance,
        cells=[
            SearchedCell(
                cell=cell.name,
                environment=cell.environment,
                algorithm=cell.algorithm,
                method=cell.method,
                seed=cell.seed,
                iterations=stood.iterations,
                score=stood.score,
                env_steps=stood.env_steps,
                cpu_hours=stood.seconds / 3600,
            )
            for cell, stood in zip(trial.cells, trial.standings, strict=True)
        ],
    )


def sentence(study: StudyRecord, is_distance: bool = False) -> str:
    """Says what was chosen for a study, in one line.

    Args:
        study: its record.
        is_distance: whether scores are distances from published ones, less than 0.
    """
    winner = configuration_name(study.winner)
    score = study.configurations[study.winner].score
    if study.best is None or score is None:
        return f"{study.label}: every cell failed, so the settings stay as they are"
    away = f"{figure(-score, 3)} published spreads away" if is_distance else figure(score, 4)
    line = f"{study.label}: {winner}, {away}"
    if study.winner == 0:
        line += ", the default"
    elif study.over_default is not None and is_distance:
        line += f", {figure(study.over_default, 3)} closer than the default"
    elif study.over_default is not None:
        line += f", {figure(study.over_default, 3, '+')} over the default"
    others = [configuration_name(number) for number in study.tied if number != study.winner]
    if others:
        line += f"; tied within noise ({figure(study.noise)}) with {listed(others, 5)}"
        line += "" if study.winner == 0 else ", and nearest to the default"
    return line


def tuned_text(progression: Progression, record: SearchRecord) -> str:
    """An experiment file with the winners beside the settings as they stand, on the test seeds."""
    experiment, folder = progression.search.experiment, progression.folder
    source = os.path.abspath(experiment.source)
    if not is_remote(folder):
        source = os.path.relpath(source, folder)
    criterion = record.criterion
    if not isinstance(criterion, str):
        criterion = (
            f"the lower bound of {criterion['lower_bound']}"
            if "lower_bound" in criterion
            else f"the distance from {criterion['published']}"
        )
    configurations = progression.search.section.configurations
    head = [
        f"Settings that a search chose, as the variant {TUNED}; as they stood, as {DEFAULT}.",
        f"Search {record.name}: {counted(configurations, 'configuration')} for each winner by "
        f"{record.proposer}, chosen by {criterion}",
        f"on seeds {', '.join(map(str, record.seeds))}, which are refused here. All of it is in "
        f"{SEARCH_FILE} beside this file.",
        *(
            sentence(study, progression.search.section.calibration is not None)
            for study in record.studies
        ),
    ]
    content: dict[str, Any] = {
        "extends": source,
        "name": f"{experiment.name}-{TUNED}",
        "environments": [
            each.id if each.is_plain else each.model_dump(mode="json", exclude_defaults=True)
            for each in experiment.environments
        ],
        "algorithms": list(experiment.algorithms),
        "methods": list(experiment.methods),
        "seeds": list(experiment.seeds),
        "variants": {DEFAULT: {}, TUNED: {}},
    }
    if experiment.changes:
        content["settings"] = experiment.changes
    content["overrides"] = [
        {"when": {**condition, "variant": TUNED}, "set": values}
        for study in record.studies
        for condition, values in _winners(progression, study)
    ]
    comments = "".join(f"# {one_line(line, 600)}\n" for line in head)
    return comments + "\n" + yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _winners(progression: Progression, study: StudyRecord) -> list[tuple[dict[str, Any], Values]]:
    """A winner's values by which cells have them: within a study some may be of some methods."""
    found: list[tuple[dict[str, Any], Values]] = []
    values = study.configurations[study.winner].values if study.winner else {}
    for name, value in values.items():
        when = progression.search.section.space[name].when
        condition = {**(when.model_dump(exclude_none=True) if when else {}), **study.each}
        for known, own in found:
            if known == condition:
                own[name] = value
                break
        else:
            found.append((condition, {name: value}))
    return found


def write(progression: Progression) -> SearchRecord:
    """Writes both files into the search's folder.

    Raises:
        OSError: the disk is full or read-only.
    """
    record = record_of(progression)
    text = tuned_text(progression, record)
    record.write(progression.folder)
    write_whole(progression.folder / TUNED_FILE, text.encode())
    return record
