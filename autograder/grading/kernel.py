"""Walls that Linux has and Python has no calls for: prctl, namespaces, a filter of system calls."""

import ctypes
import os
import platform
import re
import signal
import struct
from pathlib import Path
from typing import Any

# From the kernel's headers: sched.h, mount.h, prctl.h, capability.h.
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x00020000, 0x08000000, 0x20000000
CLONE_NEW = 0x7E020000  # all of CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
MADV_COLLAPSE, HUGE_PAGE = 25, 2**21
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 24, 36, 38
CAPABILITY_VERSION_3 = 0x20080522

# What no lab needs, by name and number on x86_64 and aarch64: it opens other processes, makes
# namespaces, reaches far into the kernel, or holds memory that is nobody's resident set. clone3 is
# here because a filter can't see its flags; the C library then takes clone.
DENIED = {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51),
    "clone3": (435, 435), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "fspick": (433, 433), "init_module": (175, 105),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104),
    "keyctl": (250, 219), "lookup_dcookie": (212, 18), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "migrate_pages": (256, 238), "mount": (165, 40),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "personality": (135, 92), "pidfd_getfd": (438, 438), "pivot_root": (155, 41),
    "process_madvise": (440, 440), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "reboot": (169, 142), "request_key": (249, 218),
    "semget": (64, 190), "setns": (308, 268), "shmget": (29, 194), "swapoff": (168, 225),
    "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97),
    "userfaultfd": (323, 282), "vmsplice": (278, 75),
}  # fmt: skip
# By machine: its place in DENIED, AUDIT_ARCH_… of audit.h, and the calls that depend on arguments.
MACHINES = {
    "x86_64": (0, 0xC000003E, {"clone": 56, "mmap": 9, "prctl": 157, "socket": 41}),
    "aarch64": (1, 0xC00000B7, {"clone": 220, "mmap": 222, "prctl": 167, "socket": 198}),
}
LOCAL_FAMILIES = (1,)  # AF_UNIX
SOCKET_FAMILIES = (*LOCAL_FAMILIES, 2, 10, 16)  # AF_INET, AF_INET6, AF_NETLINK
MAP_SHARED_ANONYMOUS = 0x21
X32 = 0x40000000  # On x86_64, numbers from here on are a second table of the same calls.

# From seccomp.h and bpf_common.h.
SECCOMP_MODE_FILTER = 2
ALLOW, DENY, KILL = 0x7FFF0000, 0x00050000 | 38, 0x80000000  # 38: ENOSYS, no such system call
LOAD, AND, RETURN = 0x20, 0x54, 0x06
IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x35, 0x45
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # in struct seccomp_data

_libc = ctypes.CDLL(None, use_errno=True)


def system(name: str, *arguments: Any) -> None:
    """Calls a function of the C library.

    Raises:
        OSError: it didn't return 0.
    """
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def collapse_memory() -> None:
    """Puts this process's own memory into huge pages, so that a fork has a hundredth of the pages
    to copy the table of, which is most of its cost. Where the kernel can't, nothing changes."""
    _libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        # Readable, writable, private, of no file.
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0", line):
            start, end = (int(address, 16) for address in found.groups())
            first = -(-start // HUGE_PAGE) * HUGE_PAGE
            for place in range(first, end - HUGE_PAGE + 1, HUGE_PAGE):
                _libc.madvise(place, HUGE_PAGE, MADV_COLLAPSE)


def die_with_parent(parent: int) -> None:
    """Has this process killed when its parent, process `parent`, ends in whatever way."""
    system("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It was faster.
        os.kill(os.getpid(), signal.SIGKILL)


def drop_capabilities() -> None:
    """Gives up all capabilities, for good."""
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    system("capset", header, struct.pack("6I", 0, 0, 0, 0, 0, 0))


def filter_program(machine: str, families: tuple[int, ...] = SOCKET_FAMILIES) -> bytes | None:
    """The filter of system calls as a program for the kernel; None for a machine that has none.

    Calls that no lab needs fail as if the kernel didn't know them. So do clone with new namespaces,
    shared memory without a file, sockets of other families, and going on without one's supervisor.
    """
    if machine not in MACHINES:
        return None
    place, architecture, numbers = MACHINES[machine]
    # Each instruction: code, how many to skip where a test is true and where it is false, operand.
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, DENY),
    ]
    for call, argument, test in (
        ("mmap", 3, [(AND, 0, 0, MAP_SHARED_ANONYMOUS), (IF_EQUAL, 0, 1, MAP_SHARED_ANONYMOUS)]),
        ("clone", 0, [(IF_ANY_BIT, 0, 1, CLONE_NEW)]),
        ("prctl", 0, [(IF_EQUAL, 0, 1, PR_SET_PDEATHSIG)]),
        (
            "socket",
            0,
            [(IF_EQUAL, len(families) - n, 0, family) for n, family in enumerate(families)],
        ),
    ):
        program += [
            (IF_EQUAL, 0, len(test) + 3, numbers[call]),
            (LOAD, 0, 0, FIRST_ARGUMENT + 8 * argument),
            *test,
            (RETURN, 0, 0, DENY),
            (RETURN, 0, 0, ALLOW),
        ]
    for both in DENIED.values():
        program += [(IF_EQUAL, 0, 1, both[place]), (RETURN, 0, 0, DENY)]
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def filter_system_calls(families: tuple[int, ...] = SOCKET_FAMILIES) -> None:
    """Puts `filter_program` on this process and all its children, for good, where there is one."""
    system("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = filter_program(platform.machine(), families)
    if program is not None:
        buffer = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
        system("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)
