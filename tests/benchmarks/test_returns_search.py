"""The log of what was tried: tuning seeds only, each setting on its own line, failures included."""

import json

import returns_search


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_returns(seed, final, variation="timesteps=50,n_steps=3", commit="a", **more):
    return {
        **{"problem": "Acrobot-v1", "label": "GSAC, defaults", "variation": variation, "timesteps": 50, "seed": seed},
        **{"final": {"deterministic": final, "stochastic": 0.0}, "area": {"deterministic": -400.0, "stochastic": 0.0}},
        **{"cpu_seconds": 10.0, "commit": commit, "curve": [{"step": 50, "deterministic": [final] * 40}], **more},
    }


def of_defaults(seed):
    curve = [{"step": 25, "mean": -500.0}, {"step": 50, "mean": -100.0}]
    return {
        **{"env": "Acrobot-v1", "variation": "", "timesteps": 50, "seed": seed, "final": -100.0, "curve": curve},
        **{"final_stochastic": -120.0, "cpu_seconds": 8.0, "commit": None, "config": {}},
    }


def test_the_table_by_hand(tmp_path):
    rows = [
        of_returns(211, -90.0),
        of_returns(0, 7.0),
        of_returns(100, -500.0, episodes=200),
        of_returns(211, -80.0, commit="b"),
    ]
    search = written(tmp_path / "search.jsonl", rows)
    sweeps = written(tmp_path / "defaults.jsonl", [of_defaults(4), of_defaults(107)])
    assert returns_search.tried(returns_search.trials([sweeps, search])).splitlines()[2:] == [
        "| Acrobot-v1 | 50 | GSAC, defaults | 107 | -100 | 20 | -300 | 8 |",
        "| Acrobot-v1 | 50 | GSAC, defaults, n_steps=3 | 100, 211 | -500, -90 | 40 or 200 | -400 | 10 |",
        "| Acrobot-v1 | 50 | GSAC, defaults, n_steps=3 | 211 | -80 | 40 | -400 | 10 |",
    ]


def test_every_run_of_the_search_is_on_a_tuning_seed_and_in_the_table():
    found = returns_search.trials()
    shown = returns_search.tried()
    assert len(found) > 100
    assert all(f"{line['final']['deterministic']:.4g}" in shown for line in found)
