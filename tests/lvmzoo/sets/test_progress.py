import sys

from lvmzoo.sets.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_a_minute_in_a_pipe():
    clock, lines = Clock(), []
    progress = Progress(100_000, lines.append, clock)
    for _ in range(100):
        clock.now += 1.5
        progress.update(200, 2)
    progress.close()
    assert lines == [
        "8,000 of 100,000 pictures, 133 a second, 80 failures, 0:12 h left",
        "16,000 of 100,000 pictures, 133 a second, 160 failures, 0:10 h left",
    ]


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines = []
    progress = Progress(10, lines.append)
    progress.bar.mininterval = progress.bar.miniters = 0  # it draws at once
    progress.update(10, 3)
    progress.close()
    assert lines == []
    assert "3 failures" in capsys.readouterr().err
