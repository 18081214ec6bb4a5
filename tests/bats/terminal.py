# SPDX-License-Identifier: Apache-2.0

"""terminal.py COMMAND...: somebody at a terminal that COMMAND runs on. Standard input says what they do,
a line each:

  type TEXT      TEXT, in which \\x03 and the like are characters, and a new line
  press TEXT     the same, without the new line
  expect REGEX   waits until that was shown, after what was waited for before
  absent REGEX   it wasn't shown since, and isn't for half a second
  raw            waits until the terminal is
  size ROWS COLUMNS
  do COMMAND     for the shell, elsewhere
  close          the terminal: the last thing that they do on it

All that was shown is on standard output; the status is 1 if something was waited for in vain.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

steps = [line.rstrip("\n").partition(" ")[::2] for line in sys.stdin if line.strip()]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
shown = b""
begin = 0


def more(seconds):
    """Whether the terminal is still in use."""
    global shown
    if select.select([fd], [], [], seconds)[0]:
        try:
            text = os.read(fd, 65536)
        except OSError:
            return False
        shown += text
        return bool(text)
    return True


def until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        if not more(0.05):
            time.sleep(0.05)
    return True


def wait(regex, seconds):
    """Goes on behind what it found."""
    global begin
    if not until(lambda: re.search(regex.encode(), shown[begin:]), seconds):
        return False
    begin += re.search(regex.encode(), shown[begin:]).end()
    return True


def done(step):
    global fd
    kind, what = step
    if kind in ("type", "press"):
        os.write(fd, codecs.decode(what, "unicode_escape").encode() + (b"\n" if kind == "type" else b""))
    elif kind == "expect":
        return wait(what, 10)
    elif kind == "absent":
        return not wait(what, 0.5)
    elif kind == "raw":
        return until(lambda: not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO), 10)
    elif kind == "size":
        rows, columns = map(int, what.split())
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    elif kind == "close":
        os.close(fd)
        fd = None
    elif kind == "do":
        subprocess.run(what, shell=True, check=True, timeout=10, stdout=subprocess.DEVNULL)
    else:
        sys.exit("%s: there is no such step" % kind)
    return True


failed = next((step for step in steps if not done(step)), None)
if failed:
    os.kill(pid, 9)
    print("in vain: %s %s" % failed)
if fd is not None:
    while more(0.5):
        pass
    os.close(fd)
os.waitpid(pid, 0)
sys.stdout.write(shown.decode(errors="replace"))
sys.exit(1 if failed else 0)
