"""Writes the result of a search beside its cells: ``search.json`` and ``tuned.yaml``."""

import math
import os
from typing import Any

import numpy as np
import yaml

from rllib_lpdm.results.layout import SEARCH_FILE, TUNED_FILE
from rllib_lpdm.results.search_record import Configuration, SearchRecord, StudyRecord
from rllib_lpdm.results.storage import is_remote, write_whole
from rllib_lpdm.schema.messages import counted, figure, listed, one_line
from rllib_lpdm.searches.choice import Ranked, choose
from rllib_lpdm.searches.generations import SearchSchedule, StudyTrials, Trial
from rllib_lpdm.searches.proposals import Values
from rllib_lpdm.searches.studies import Search, Study, configuration_name

DEFAULT, TUNED = "reference", "tuned"  # variants of tuned.yaml


def write(schedule: SearchSchedule) -> SearchRecord:
    """Writes both files of a search whose cells have all ended into its folder.

    Raises:
        OSError: the disk is full or read-only.
    """
    section = schedule.search.section
    studies = [_study(schedule.search, trials) for trials in schedule.studies]
    cells = [c for study in studies for each in study.configurations for c in each.cells]
    criterion = section.criterion
    record = SearchRecord(
        name=schedule.search.experiment.name,
        proposer=section.proposer,
        criterion=criterion if isinstance(criterion, str) else criterion.model_dump(),
        seeds=section.all_seeds,
        space={
            name: dimension.model_dump(mode="json", exclude_none=True)
            for name, dimension in section.space.items()
        },
        rungs=[*schedule.rungs, *([1.0] if section.more_seeds else [])],
        studies=studies,
        env_steps=sum(cell.env_steps for cell in cells),
        cpu_hours=math.fsum(cell.cpu_hours for cell in cells),
    )
    text = _tuned_text(schedule, record)
    record.write(schedule.folder)
    write_whole(schedule.folder / TUNED_FILE, text.encode())
    return record


def _study(search: Search, trials: StudyTrials) -> StudyRecord:
    defaults = search.defaults(trials.study)
    configurations = [
        _configuration(trials.study, trial, defaults) for trial in trials.by_number.values()
    ]
    last = trials.last
    scores = np.array([trial.score for trial in last])
    distances = np.array([configurations[trial.number].distance for trial in last])
    choice = choose(Ranked(scores, trials.noise), distances)
    default = next((trial.score for trial in last if trial.number == 0), None)
    chosen: dict[str, Any] = {"best": None, "noise": 0.0, "tied": [], "winner": 0}
    chosen |= {"margin": None, "over_default": None}
    if choice is not None:  # at least one cell has a score
        winner = last[choice.winner]
        chosen = {
            "best": last[choice.best].number,
            "noise": trials.noise,
            "tied": [last[index].number for index in choice.tied],
            "winner": winner.number,
            "margin": choice.margin,
            "over_default": None if default is None else winner.score - default,
        }
    return StudyRecord(each=dict(trials.study.each), configurations=configurations, **chosen)


def _configuration(study: Study, trial: Trial, defaults: Values) -> Configuration:
    values = trial.values or defaults
    distance = 0.0
    if trial.number:
        distance = sum(
            dimension.distance(values[name], defaults[name]) if name in defaults else 1.0
            for name, dimension in study.space.items()
        ) / len(study.space)
    places = {name: study.space[name].place(value) for name, value in values.items()}
    return Configuration(
        number=trial.number,
        name=configuration_name(trial.number),
        values=values,
        places={name: place for name, place in places.items() if place is not None},
        rung=trial.rung,
        score=None if math.isnan(trial.score) else trial.score,
        distance=distance,
        cells=list(trial.results),
    )


def sentence(study: StudyRecord, is_distance: bool = False) -> str:
    """Returns a line about a study's winner; distances from published scores have a minus."""
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


def _tuned_text(schedule: SearchSchedule, record: SearchRecord) -> str:
    """Returns an experiment file that runs winners and default settings on the test seeds."""
    experiment, folder = schedule.search.experiment, schedule.folder
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
    section = schedule.search.section
    head = [
        f"Settings that a search chose, as the variant {TUNED}; as they stood, as {DEFAULT}.",
        f"Search {record.name}: {counted(section.configurations, 'configuration')} for each winner "
        f"by {record.proposer}, chosen by {criterion}",
        f"on seeds {', '.join(map(str, record.seeds))}, which are refused here. All of it is in "
        f"{SEARCH_FILE} beside this file.",
        *(sentence(study, section.calibration is not None) for study in record.studies),
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
        for condition, values in _winners(schedule.search, study)
    ]
    comments = "".join(f"# {one_line(line, 600)}\n" for line in head)
    return comments + "\n" + yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _winners(search: Search, study: StudyRecord) -> list[tuple[dict[str, Any], Values]]:
    """Returns conditions on cells, each with the winner's values for the cells that meet it."""
    found: list[tuple[dict[str, Any], Values]] = []
    values = study.configurations[study.winner].values if study.winner else {}
    for name, value in values.items():
        when = search.section.space[name].when
        condition = {**(when.model_dump(exclude_none=True) if when else {}), **study.each}
        same = [own for known, own in found if known == condition]
        if same:
            same[0][name] = value
        else:
            found.append((condition, {name: value}))
    return found
