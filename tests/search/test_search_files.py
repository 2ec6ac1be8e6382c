"""What may stand in a ``search``: what comes of it, and one line for each fault."""

import time

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.searches.proposals import first_proposals
from rllib_lpdm.searches.studies import Search
from tests.experiment.files import CONFIGS
from tests.experiment.test_fuzz import TREES, fuzzed, outcome
from tests.search.cells import SECTION, SPACE, load, search_file

LOG = {"log": [1e-5, 1e-2]}


@pytest.mark.parametrize(
    ("section", "fragment"),
    [
        ({"seeds": [0, 1000]}, "seeds: 0 is among the search.seeds"),
        ({"seeds": 2}, "search.seeds: Input should be a valid list, got 2"),
        ({"seeds": [3, 3]}, "search.seeds: lists something twice"),
        ({"space": {}}, "search.space: is empty; name a setting"),
        ({"space": {"lr": {"log": [0, 1]}}}, "search.space.lr: log has no place for 0"),
        ({"space": {"lr": {"log": [1, 1e-3]}}}, "lr: log goes from the lower to the higher"),
        ({"space": {"lr": {"log": [1e-3, float("inf")]}}}, "lr.log[1]: Input should be a finite"),
        ({"space": {"lr": {}}}, "search.space.lr: give one of log, uniform, integer, choice"),
        ({"space": {"lr": LOG | {"choice": [1, 2]}}}, "search.space.lr: give one of log"),
        (
            {"space": {"lr": {"lgo": [1, 2]}}},
            "search.space.lr: unknown key 'lgo', did you mean 'log'",
        ),
        (
            {"space": {"lr": {"choice": [1e-3]}}},
            "search.space.lr.choice: List should have at least 2",
        ),
        ({"space": {"lr": {"uniform": [True, 2]}}}, "must be a number, not true or false"),
        (
            {"space": {"lr": {"uniform": [-1, 1]}}},
            "search.space.lr: Input should be greater than 0",
        ),
        ({"space": {"gama": LOG}}, "space: unknown setting 'gama', did you mean 'gamma'?"),
        ({"space": {"clip_param": LOG}}, "search.space.clip_param: reinforce has no such setting"),
        ({"space": {"iterations": {"integer": [1, 9]}}}, "space.iterations: is the same for all"),
        ({"space": {"cpus": {"integer": [1, 9]}}}, "space.cpus: is the same for all"),
        (
            {"space": {"lr": LOG | {"when": {"method": "bp"}}}},
            "search.space.lr.when: matches none of the experiment's cells",
        ),
        (
            {"space": {"lr": LOG | {"when": {"mehtod": "bp"}}}},
            "search.space.lr.when: unknown key 'mehtod', did you mean 'method'?",
        ),
        ({"halving": {"rungs": [1.0]}}, "search.halving.rungs: halving takes two rungs or more"),
        ({"halving": {"rungs": [0.5, 0.2]}}, "halving.rungs: rungs rise, and the last one is 1.0"),
        (
            {"halving": {"rungs": [0.5, 1], "kepe": 1}},
            "search.halving: unknown key 'kepe', did you",
        ),
        (
            {"halving": {"rungs": [0.5, 1.0]}, "proposer": "optuna"},
            "halving needs all configurations",
        ),
        (
            {"configurations": 1},
            "search.configurations: Input should be greater than or equal to 2",
        ),
        (
            {"configurations": 10_000, "seeds": list(range(1000, 1020))},
            "200,000 cells are more than",
        ),
        ({"criterion": "max"}, "search.criterion: Input should be 'max_score'"),
        ({"criterion": {"lower_bound": "paper"}}, "search.criterion"),
        (
            {"criterion": {"lower_bound": "max_score"}, "seeds": [9]},
            "a lower bound takes two seeds",
        ),
        ({"criterion": {"published": "none.csv"}}, "search.criterion.published: "),
        ({"criterion": {"published": "paper", "colums": []}}, "'colums', did you mean 'columns'?"),
        ({"criterion": {"published": "paper", "columns": ["score"]}}, "columns[0]: Input should"),
        ({"criterion": {"published": "paper", "methods": ["bp"]}}, "methods: nothing of CartPole"),
        ({"criterion": {"published": "paper", "floors": {"max_score": 0}}}, "greater than 0"),
        ({"criterion": {"published": "paper", "floors": {"score": 1}}}, "criterion.floors"),
        ({"criterion": {"lower_bund": "max_score"}}, "did you mean 'lower_bound'?"),
        (
            {"criterion": {"published": "paper", "columns": ["rel_spread"]}, "seeds": [9]},
            "a spread takes two seeds",
        ),
        ({"more_seeds": {"keep": 1, "seeds": [1000]}}, "more_seeds: lists a seed twice"),
        ({"more_seeds": {"keep": 0, "seeds": [9]}}, "more_seeds.keep: Input should be greater"),
        ({"more_seeds": {"kep": 1, "seeds": [9]}}, "unknown key 'kep', did you mean 'keep'?"),
        ({"more_seeds": {"keep": 1, "seeds": [0]}}, "seeds: 0 is among the search.seeds"),
        ({"proposer": "grid"}, "search.proposer: Input should be 'random', 'sobol' or 'optuna'"),
        ({"each": ["seed"]}, "search.each[0]: Input should be 'environment'"),
        ({"budget": 3}, "search: unknown key 'budget'"),
    ],
    ids=str,
)
def test_a_fault_is_one_line_that_names_the_place(section, fragment, tmp_path):
    path = search_file(tmp_path, section)
    with pytest.raises(UserError) as raised:
        Search.of(load_experiment(path))
    line = str(raised.value)
    assert line.splitlines() == [line]
    assert line.startswith(str(path))
    assert fragment in line


def test_the_page_on_calibration_shows_the_examples_table():
    page = (CONFIGS.parent / "docs" / "search.md").read_text(encoding="utf-8")
    assert f"```\n{(CONFIGS / 'calibration.csv').read_text(encoding='utf-8')}```" in page


def test_what_has_not_been_published_is_named(tmp_path):
    head = "environment,algorithm,method,max_score,iterations\n"
    (tmp_path / "table.csv").write_text(head + "CartPole-v1,reinforce,lpdm,450,\n")
    criterion = {"published": "table.csv", "columns": ["max_score", "iterations"]}
    said = "table.csv has no iterations for CartPole-v1 reinforce lpdm"
    with pytest.raises(UserError, match=said):
        load(tmp_path, {"criterion": criterion})
    with pytest.raises(UserError, match="paper has no max_score for Pendulum-v1 reinforce"):
        load(tmp_path, {"criterion": "paper"}, environments=["Pendulum-v1"])


def test_a_setting_that_only_some_methods_have_leaves_the_others_something_to_search(tmp_path):
    space = {"hidden_lr": LOG | {"when": {"method": "lpdm"}}}
    with pytest.raises(UserError, match="nothing in it is searched of CartPole-v1 reinforce bp"):
        load(tmp_path, {"space": space}, methods=["bp", "lpdm"])


@pytest.mark.parametrize(
    ("entries", "fragment"),
    [
        ({"variants": {"slow": {"lr": 1e-4}}}, "search: does not go with variants"),
        (
            {"overrides": [{"when": {"variant": "tuned"}, "set": {"lr": 1.0}}]},
            r"overrides\[0\].when.variant: unknown variant 'tuned'",
        ),
        ({"settings": {"lr": 1e-3}}, "settings.iterations: say how many iterations"),
    ],
    ids=["variants", "override", "no budget"],
)
def test_the_rest_of_the_file_has_to_go_with_it(entries, fragment, tmp_path):
    with pytest.raises(UserError, match=fragment):
        load(tmp_path, {}, **entries)


def test_what_is_searched_cannot_be_set_for_all(tmp_path):
    with pytest.raises(UserError, match=r"--set settings.lr: is searched by .*search.space"):
        load(tmp_path, {}, ["settings.lr=0.1"])


DIMENSIONS = st.fixed_dictionaries(
    {},
    optional={
        "log": st.lists(st.floats() | st.integers(), max_size=3),
        "choice": st.lists(st.none() | st.floats(0, 1), max_size=3),
        "when": st.dictionaries(st.sampled_from(["method", "algorithm"]), TREES, max_size=1),
    },
)
SECTIONS = st.fixed_dictionaries(
    {
        "configurations": st.integers(0, 5),
        "seeds": st.lists(st.integers(999, 1002), max_size=2),
        "space": st.dictionaries(st.sampled_from(["lr", "gamma", "rl"]), DIMENSIONS | TREES),
    },
    optional={
        "criterion": st.just("end_score") | TREES,
        "halving": st.just({"rungs": [0.5, 1.0]}) | TREES,
        "each": TREES,
    },
)


@fuzzed(200)
@given(SECTIONS | TREES)
def test_whatever_stands_in_it_ends_in_cells_or_in_one_line(tmp_path_factory, section):
    path = search_file(tmp_path_factory.getbasetemp(), {})
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"search": section}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    if isinstance(outcome(path), str) or section is None:
        return
    names = Search.of(load_experiment(path)).names()
    assert len(set(names)) == len(names) > 0


# -- what comes of it -----------------------------------------------------------------------------


def test_number_0_is_the_settings_as_they_stand(tmp_path):
    search = load(tmp_path, {})
    (study,) = search.studies
    plain = load_experiment(search_file(tmp_path, {})).cells()[0].settings
    assert {cell.settings for cell in search.cells(study, 0, {})} == {plain}
    assert search.proposals(study)[0] == {}


@pytest.mark.parametrize("proposer", ["random", "sobol", "optuna"])
def test_methods_get_the_same_values_of_what_they_share(proposer, tmp_path):
    space = SPACE | {"hidden_lr": LOG | {"when": {"method": "lpdm"}}}
    search = load(tmp_path, {"proposer": proposer, "space": space}, methods=["bp", "lpdm"])
    bp, lpdm = map(search.proposals, search.studies)
    assert all("hidden_lr" in values for values in lpdm[1:])
    assert [{k: v for k, v in values.items() if k != "hidden_lr"} for values in lpdm] == bp


def test_a_random_draw_depends_on_nothing_but_the_seed_the_setting_and_the_number(tmp_path):
    def rates(**section):
        search = load(tmp_path, {"proposer": "random", **section})
        return [values.get("lr") for values in search.proposals(search.studies[0])]

    assert rates(space={"gamma": {"uniform": [0.9, 1]}, **SPACE}) == rates()
    assert rates(configurations=30)[:8] == rates()
    assert rates(seed=1) != rates()


def test_a_sobol_sequence_fills_every_part_of_the_space_once():
    section = SearchSection(
        configurations=17,
        seeds=[1],
        space={"lr": {"log": [1e-4, 1]}, "gamma": {"uniform": [0, 1]}},
    )
    values = first_proposals(section)[1:]
    parts = {(int(np.log10(v["lr"]) + 4), int(4 * v["gamma"])) for v in values}
    assert len(parts) == 16  # of 16 squares, 16 points


def test_values_are_what_a_person_would_write_and_stay_within_their_limits():
    log = Dimension(log=(1e-5, 1e-2))
    assert (log.at(0), log.at(0.5), log.at(1 - 1e-12)) == (1e-5, 0.0003162, 1e-2)
    assert Dimension(log=(1.00004e-5, 1e-2)).at(0) == 1.00004e-5
    assert [Dimension(integer=(2, 4)).at(u) for u in (0, 0.3, 0.34, 0.99)] == [2, 2, 3, 4]
    assert [Dimension(choice=[8, None]).at(u) for u in (0, 0.49, 0.5, 1)] == [8, 8, None, None]
    assert log.place(1e-3) == pytest.approx(2 / 3)
    assert log.distance(1e-3, 1e-4) == pytest.approx(1 / 3)
    assert log.distance(None, 1e-4) == 1
    assert Dimension(choice=[8, None]).distance(8, None) == 1


def test_a_choice_written_as_text_is_the_number_that_it_says(tmp_path):
    search = load(tmp_path, {"space": {"lr": {"choice": ["1e-3", "1e-4"]}}})
    assert search.section.space["lr"].choice == [1e-3, 1e-4]


def test_a_thousand_configurations_expand_under_ten_milliseconds_each(tmp_path):
    path = search_file(tmp_path, {"configurations": 1000, "seeds": [1000, 1001, 1002]})
    began = time.process_time()
    search = Search.of(load_experiment(path))
    assert time.process_time() - began < 10
    assert len(search.names()) == 3000


def test_the_file_of_the_configs_compares_its_methods_at_equal_budgets():
    search = Search.of(load_experiment(CONFIGS / "search.yaml"))
    names = search.names()
    assert len(names) == 2 * 3 * 16 * 2
    assert names[0] == "CartPole-v1_reinforce_bp_c000_s1000"
    cells = [cell for study in search.studies for cell in search.cells(study, 3, {})]
    assert {cell.settings.iterations for cell in cells} == {1500}
    assert SECTION["seeds"] == search.section.seeds
