"""Prints the PID of each process that listens on one of these ports.

usage: listening.py PORT ...
"""

import sys

import psutil


def main() -> None:
    """Print the PIDs."""
    ports = {int(port) for port in sys.argv[1:]}
    listening = [one for one in psutil.net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN]
    for pid in sorted({one.pid for one in listening if one.pid and one.laddr and one.laddr.port in ports}):
        print(pid)


if __name__ == "__main__":
    main()
