"""``vlad-cli study``: a blinded rating study of several systems' images: drawn, served to raters, and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vlad_lightning.cli.arguments import Parser, nearest

_ACTIONS = ("make", "serve", "report")


def main(args: Sequence[str]) -> None:
    """Parse the command's arguments and run one of its actions.

    Args:
        args: the arguments after ``study`` on the command line.

    Raises:
        ValueError, OSError: if an argument cannot be used.
        SystemExit: with code 0 after ``--help``.
    """
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        if not args:
            raise ValueError(f"an action is missing; it must be one of {', '.join(_ACTIONS)}")
        return
    actions: dict[str, Callable[[Sequence[str]], None]] = dict(zip(_ACTIONS, (_make, _serve, _report), strict=True))
    if args[0] not in actions:
        raise ValueError(
            f"unknown action {args[0]!r}{nearest(args[0], actions)}; it must be one of {', '.join(actions)}"
        )
    actions[args[0]](args[1:])


def _help() -> str:
    return (
        "usage: vlad-cli study make|serve|report [OPTIONS]\n\n"
        "Ask people about several systems' images: three criteria from 1 to 5, and choices between two images.\n\n"
        "  make    draw a blinded, balanced study from folders of images\n"
        "  serve   serve it to raters and save their answers\n"
        "  report  means, agreement and rankings with intervals, as Markdown, LaTeX and JSON\n\n"
        "`vlad-cli study make --help` shows an action's options; docs/study.md shows how to run a study."
    )


def _make(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli study make", description="Draw a blinded study from folders of images.")
    parser.add_argument(
        "--system",
        metavar="NAME=DIR",
        action="append",
        required=True,
        help="a system and the folder of its images; twice or more. Images with the same path below their folders "
        "belong to the same prompt",
    )
    parser.add_argument("--out", type=Path, required=True, help="the study's folder, which must not exist")
    parser.add_argument(
        "--prompts",
        type=Path,
        help="JSON Lines with key (relative path without suffix) and prompt; default: the text of the PNG, or the JSON "
        "beside it, as generate and predict write them",
    )
    parser.add_argument("--items", type=int, help="images a rater rates, a multiple of the systems; default: up to 40")
    parser.add_argument(
        "--pairs", type=int, help="pairs a rater compares, a multiple of their number; default: up to 20"
    )
    parser.add_argument(
        "--checks", type=int, help="attention checks a rater gets; default: one in ten items, at least 2"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same prompts and orders; default: %(default)s")
    parser.add_argument("--title", help="heading that raters see")
    options = parser.parse_args(args)
    # slow to import, so only after the arguments are checked
    from vlad_lightning.studio.study_make import Plan, make_study

    plan = Plan(options.items, options.pairs, options.checks, options.seed)
    if options.title is not None:
        plan = Plan(options.items, options.pairs, options.checks, options.seed, options.title)
    print("\n".join(make_study(options.system, options.out, plan, options.prompts)))


def _serve(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli study serve", description="Serve a study to raters; every answer is saved at once.")
    parser.add_argument("study", metavar="STUDY", type=Path, help="the study's folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    parser.add_argument("--port", type=int, default=7861, help="port to listen on; default: %(default)s")
    parser.add_argument(
        "--raters", type=int, help="make this many personal links; without it, anyone with the study's link can enrol"
    )
    parser.add_argument(
        "--address", help="how raters reach the server, such as https://example.org; default: host, port"
    )
    options = parser.parse_args(args)
    try:
        from vlad_lightning.studio.study_serve import serve
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    serve(options.study, options.host, options.port, options.raters, options.address)


def _report(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli study report", description="Report a study's answers, with 95 %% intervals.")
    parser.add_argument("study", metavar="STUDY", type=Path, help="the study's folder")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write report.md, table.tex, results.json into"
    )
    parser.add_argument(
        "--most_failed",
        type=float,
        default=1 / 3,
        help="share of failed checks beyond which a rater is excluded; default: a third",
    )
    parser.add_argument(
        "--most_same",
        type=float,
        default=0.95,
        help="share of equal answers from which a rater is excluded; default: %(default)s",
    )
    parser.add_argument(
        "--least_seconds",
        type=float,
        default=2.0,
        help="median seconds an item below which a rater is excluded; default: %(default)s",
    )
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples; default: %(default)s")
    options = parser.parse_args(args)
    try:
        from vlad_lightning.studio.study_report import write_report
        from vlad_lightning.studio.study_screening import Limits
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    limits = Limits(options.most_failed, options.most_same, options.least_seconds)
    print("\n".join(write_report(options.study, options.out, limits, options.resamples, options.seed)))


def _missing(error: ModuleNotFoundError) -> ValueError:
    return ValueError(f"{error.name} is not installed, and studies need it: pip install 'vlad-lightning[studio]'")
