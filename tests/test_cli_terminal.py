from mlpprof.cli.terminal import LINE_EVERY_S, ProgressLines


def test_lines_of_progress_come_when_something_is_new_and_not_too_often(capsys):
    now_s = [0.0]
    report = ProgressLines(lambda: now_s[0])
    for what, passed_s in (
        ("0 of 9 cells", 0.0),
        ("1 of 9 cells", 1.0),
        ("2 of 9 cells", LINE_EVERY_S),
        ("2 of 9 cells", 2 * LINE_EVERY_S),
        ("3 of 9 \x1b[31m", LINE_EVERY_S),
    ):
        now_s[0] += passed_s
        report(what, 0.5)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "0 of 9 cells\n2 of 9 cells\n3 of 9 \ufffd[31m\n")
