"""The graph before anything runs: what is shared, what a key holds, and what depends on what."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny import steps_of, tiny_config

from lab.config.cost import parameters
from lab.config.files import load_study
from lab.errors import InputError
from lab.loop import Generation, Study, build
from lab.steps import STEPS
from lab.steps.kind import source_hash
from lab.store.step import Step
from lab.store.store import Job

Built = Callable[..., Study]


def keys(study: Study) -> set[str]:
    return {step.key for step in study.steps}


def generation(study: Study, regime: str, seed: int, t: int) -> Generation:
    return next(g for g in study.generations if (g.regime, g.seed, g.t) == (regime, seed, t))


def ancestors(step: Step) -> set[Step]:
    found: set[Step] = set()
    stack = [step]
    while stack:
        for parent in stack.pop().inputs.values():
            if parent not in found:
                found.add(parent)
                stack.append(parent)
    return found


def test_quick_is_26_trainings() -> None:
    """One for each seed at generation 0, then 3 regimes x 2 seeds x 4 generations: 2 + 24."""
    study = build(load_study("quick"))
    count = Counter(step.name for step in study.steps)
    assert count["train"] == count["synthetic"] == count["heldout"] == count["record"] == count["pool"] == 26
    assert (count["corpus"], count["tokenizer"], count["rows"], count["human"]) == (1, 1, 1, 4)
    assert len(study.generations) == 3 * 2 * 5


def test_generation_0_is_shared_between_regimes_and_nothing_else_is(built: Built) -> None:
    study = built(regimes=["human", "replace", "accumulate"], seeds=[0, 1], generations=4)
    owners: dict[Step, set[tuple[str, int, int]]] = {}
    for g in study.generations:
        for step in (g.recipe, g.models[0], g.synthetic, g.probes["heldout"][0], g.record):
            owners.setdefault(step, set()).add((g.regime, g.seed, g.t))
    for step, chains in owners.items():
        if any(t == 0 for _, _, t in chains):
            seed = next(iter(chains))[1]
            assert chains == {(regime.label, seed, 0) for regime in study.config.regimes}, step.label
        else:
            assert len(chains) == 1, step.label


def test_regimes_share_their_chance(built: Built) -> None:
    """What is random in a training or a sample depends on seed and generation, never on the regime."""
    study = built(regimes=["human", "replace", "accumulate"], seeds=[0, 1], generations=3)
    chance: dict[tuple[int, int], list[Any]] = {}
    for g in study.generations:
        shards = [step.params for step in g.synthetic.inputs.values() if step.name == "sample"]
        chance.setdefault((g.seed, g.t), []).append((g.models[0].params, shards))
    for values in chance.values():
        assert values[0] == values[1] == values[2]
    seeds = [params["seed"] for values in chance.values() for params in values[0][1]]
    assert len(set(seeds)) == len(seeds) == 2 * 3 * 2, "2 shards a generation, each with a seed of its own"


def test_the_control_waits_for_no_sample(built: Built) -> None:
    study = built(generations=3)
    for t in range(3):
        behind = {step.name for step in ancestors(generation(study, "human", 0, t).models[0])}
        assert behind == {"corpus", "tokenizer", "rows", "heldout-rows", "human", "pool"}
        if t:
            assert "sample" in {step.name for step in ancestors(generation(study, "replace", 0, t).models[0])}


def test_each_regime_reads_its_samples(built: Built) -> None:
    study = built(regimes=["human", "replace", "accumulate"], generations=4)
    reads = {
        regime.label: sorted(role for role in generation(study, regime.label, 0, 3).recipe.inputs if role != "human")
        for regime in study.config.regimes
    }
    assert reads == {
        "human": [],
        "replace": ["synthetic-2"],
        "accumulate": ["synthetic-0", "synthetic-1", "synthetic-2"],
    }
    own = generation(study, "replace", 0, 2).synthetic
    assert generation(study, "replace", 0, 3).recipe.inputs["synthetic-2"] == own


def test_shards_cover_the_sample(built: Built) -> None:
    """512 tokens are 32 rows of 16; shards of 20 rows are 20 and 12."""
    shards = steps_of(built(generations=1), "sample")
    assert [step.params["rows"] for step in shards] == [20, 12]
    assert [step.tokens for step in shards] == [320, 192]


def test_inputs_come_before_what_needs_them(built: Built) -> None:
    order = built(regimes=["human", "replace", "accumulate"], seeds=[0, 1], generations=4).steps
    place = {step: i for i, step in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[parent] < place[step] for step in order for parent in step.inputs.values())


@pytest.mark.slow
def test_a_chain_of_a_thousand_generations_is_ordered(corpus_file: Path) -> None:
    """No recursion over the chain's length."""
    config = tiny_config(corpus_file, generations=1000, regimes=["replace"])
    assert len(steps_of(build(config), "train")) == 1000


def kind_of(step: Step) -> str:
    """The fold of held-out rows, which human rows, the name of any other step."""
    if step.name == "human":
        return "human" if step.params["after"] == 0 else "resample"
    return str(step.params["fold"]) if step.name == "heldout-rows" else step.name


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"train__lr": 4e-3}, "train"),
        ({"train__tokens": 656}, "train"),
        ({"train__batch_rows": 5}, "train"),
        ({"train__warmup": 0.1}, "train"),
        ({"train__final_lr": 0.2}, "train"),
        ({"train__weight_decay": 0.2}, "train"),
        ({"train__beta1": 0.8}, "train"),
        ({"train__beta2": 0.8}, "train"),
        ({"train__clip": 2.0}, "train"),
        ({"model__n_layer": 2}, "train"),
        ({"model__n_head": 4}, "train"),
        ({"model__n_embd": 32}, "train"),
        ({"compute__dtype": "bfloat16"}, "train"),
        ({"compute__threads": 2}, "train sample heldout"),
        ({"sample__tokens": 528}, "sample"),
        ({"sample__shard_rows": 16}, "sample"),
        ({"metrics__tokens": 272}, "record resample"),
        ({"metrics__test_tokens": 144}, "test"),
        ({"train__validation_tokens": 80}, "validation train"),
        ({"model__n_positions": 8}, "rows train sample"),
        ({"corpus__tokens": 528}, "human resample"),
        ({"tokenizer__vocab_size": 290}, "tokenizer"),
        ({"corpus__domain": None}, "corpus"),
        ({"corpus__author": None}, "corpus"),
        ({"corpus__group": None}, "corpus"),
        ({"corpus__text": "group"}, "corpus"),
        ({"corpus__piece": 900}, "corpus"),
    ],
    ids=str,
)
def test_what_decides_a_step_changes_its_key(built: Built, change: dict[str, Any], kinds: str) -> None:
    """`kinds` are those whose own parameters hold the field; what needs them changes with them, and nothing else."""
    before, after = built(generations=1), built(generations=1, **change)
    touched = {
        step.name
        for step in before.steps
        if {kind_of(step), *(kind_of(parent) for parent in ancestors(step))} & set(kinds.split())
    }
    assert {step.name for step in after.steps if step.key not in keys(before)} == touched


def test_seeds_have_steps_of_their_own(built: Built) -> None:
    """Beside the text, the tokenizer and the held-out rows, which they share."""
    both = keys(built(seeds=[0])) & keys(built(seeds=[1]))
    assert both == {step.key for step in steps_of(built(seeds=[0]), "corpus", "tokenizer", "rows", "heldout-rows")}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"note": "a remark"},
        {"seeds": [1, 0]},
        {"regimes": ["replace", "human"]},
    ],
    ids=str,
)
def test_names_notes_and_order_are_in_no_key(built: Built, change: dict[str, Any]) -> None:
    assert keys(built(**{"seeds": [0, 1], **change})) == keys(built(seeds=[0, 1]))


@pytest.mark.parametrize(
    "change", [{"seeds": [0, 1]}, {"regimes": ["human", "replace", "accumulate"]}, {"generations": 3}], ids=str
)
def test_a_study_that_grows_keeps_its_steps(built: Built, change: dict[str, Any]) -> None:
    assert keys(built()) < keys(built(**change))


def test_the_corpus_is_its_content_and_not_its_path(corpus_file: Path, tmp_path: Path) -> None:
    """Moved or named in another way, nothing is computed again; one byte more, and everything is."""
    copy = Path(shutil.copy(corpus_file, tmp_path / "copy.jsonl"))
    before, moved = build(tiny_config(corpus_file)), build(tiny_config(copy))
    assert keys(moved) == keys(before)
    text = steps_of(moved, "corpus")[0]
    assert Job.of(text, "").params["path"] == str(copy), "yet the job knows where to read it"
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert not keys(build(tiny_config(copy))) & keys(before)


def test_the_same_bytes_read_as_another_kind_are_another_corpus(corpus_file: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(corpus_file, tmp_path / "copy.txt"))
    assert not keys(build(tiny_config(copy))) & keys(build(tiny_config(corpus_file)))


def test_a_pretrained_tokenizer_is_its_content(corpus_file: Path, tmp_path: Path) -> None:
    studies = []
    for name, text in [("a", "{}"), ("b", "{}"), ("c", '{"x": 1}')]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(text)
        studies.append(build(tiny_config(corpus_file, tokenizer={"pretrained": str(tmp_path / name)})))
    a, b, c = (keys(study) for study in studies)
    assert a == b
    assert len(a & c) == 1, "the corpus"


def test_a_folder_without_a_tokenizer(corpus_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no tokenizer files"):
        build(tiny_config(corpus_file, tokenizer={"pretrained": str(tmp_path)}))


def test_a_regime_of_the_users_own(corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source is in the key from generation 1 on; generation 0 is everybody's."""
    source = tmp_path / "own_regime_module.py"
    source.write_text("def half(lineage, *, rng):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tiny_config(corpus_file, regimes=["human", "own_regime_module:half"])
    before = build(config)
    assert generation(before, "own_regime_module:half", 0, 0).models[0] == generation(before, "human", 0, 0).models[0]
    source.write_text(source.read_text() + "ANOTHER = 1\n")
    after = build(config)
    for t, same in [(0, True), (1, False)]:
        old, new = (generation(study, "own_regime_module:half", 0, t).recipe for study in (before, after))
        assert (old == new) is same


@pytest.mark.parametrize("regime", ["replcae", "no_such_module:f", "math:pi", "math:hypot"])
def test_a_regime_that_cannot_be_used_is_refused_before_anything_runs(built: Built, regime: str) -> None:
    with pytest.raises(InputError, match=f'regime "{regime}"'):
        built(regimes=[regime])


@pytest.mark.parametrize(
    ("changes", "said"),
    [  # 32 human rows; generation 2 takes 8 rows of the newest sample, and generation 1 takes 24
        (
            {"regimes": [{"mix": {"human": 0.25, "older": 0.5}}], "sample__tokens": 256, "metrics__tokens": 128},
            "generation 1: 24 rows were asked for of 16",
        ),
        (
            {"regimes": [{"mix": {"human": 0.5, "fresh": True}}], "corpus__archive_tokens": 512},
            "generation 3: mix: generation 3 needs 16 fresh human rows after the 32 used",
        ),
    ],
)
@pytest.mark.parametrize("more", [{}, {"corpus__layout": "documents"}, {"population": 2}], ids=str)
def test_a_mix_is_tried_for_every_generation(
    built: Built, changes: dict[str, Any], said: str, more: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=said):
        built(generations=4, **changes, **more)


def test_all_faults_of_functions_are_said_at_once(built: Built) -> None:
    with pytest.raises(InputError) as caught:
        built(regimes=["replcae", {"last_k": {"k": 0}}], curators=["dupliactes"])
    assert str(caught.value).count("; ") >= 2
    for said in ('did you mean "replace"', "k is 0", 'did you mean "duplicates"'):
        assert said in str(caught.value)


def test_every_step_knows_the_source_of_its_meaning() -> None:
    for kind in STEPS.values():
        assert len(source_hash(kind)) == 16


def test_parameters_by_hand() -> None:
    """C = 2, V = 5, T = 3, 1 layer: embeddings (5 + 3) x 2; a block 12 x 4 + 13 x 2; the last norm 2 x 2: 94."""
    config = tiny_config("x", model={"n_layer": 1, "n_head": 1, "n_embd": 2, "n_positions": 3})
    assert parameters(config.model, 5) == 94
