"""What completes the command in bash, zsh or fish."""

from .table import COMMANDS, SHELLS, flags_of, kind, told, value

OWN = ("serve", "export", "bench")  # commands with flags of their own; all others have those of run
NAMES = " ".join(command.name for command in COMMANDS)


def tables():
    """{command: its Flags that begin with a dash and are shown}"""
    shown = lambda name: [f for f in flags_of(name) if told(f) and f.long.startswith("-")]
    return {name: shown(name) for name in ("run", *OWN)}


def behind(name):
    """The words that may stand behind a command, if they are few."""
    from .topics import topic_names

    return {"help": topic_names(), "completion": list(SHELLS)}.get(name, [])


BASH = """\
# made by `twofile completion bash`; to have it:  eval "$(twofile completion bash)"
_twofile() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=run
    COMPREPLY=()
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if ((COMP_CWORD > 1)); then
        case ${COMP_WORDS[1]} in
            %(own)s | help | completion) command=${COMP_WORDS[1]} ;;
        esac
    fi
    case $command:$before in
%(values)s    esac
    if [[ $word == -* ]]; then
        case $command in
%(flags)s        esac
    elif ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "%(names)s" -- "$word"))
    fi
}
complete -o bashdefault -o default -F _twofile twofile
"""


NO_FILES = "+o default +o bashdefault 2> /dev/null"


def bash():
    """Files are what bash completes where the function finds nothing."""
    values, flags = "", ""
    for name, table in tables().items():
        groups = {}
        for flag in table:
            what = kind(flag)
            groups.setdefault(tuple(what) if isinstance(what, list) else what, []).extend(
                flag.names
            )
        for what, names in groups.items():
            does = {"files": "return", "folders": f"compopt -o dirnames {NO_FILES}; return"}
            does[None] = f"compopt {NO_FILES}; return"
            words = " ".join(what) if isinstance(what, tuple) else ""
            does = does.get(what, f'COMPREPLY=($(compgen -W "{words}" -- "$word")); return')
            if what != "":
                values += f"        {' | '.join(f'{name}:{n}' for n in names)})\n"
                values += f"            {does} ;;\n"
        names = " ".join(n for flag in table for n in flag.names)
        flags += f'            {name}) COMPREPLY=($(compgen -W "{names} --help" -- "$word")) ;;\n'
    for name in ("help", "completion"):
        words = " ".join(behind(name))
        values += (
            f'        {name}:{name}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return ;;\n'
        )
    own = " | ".join(OWN)
    return BASH % {"own": own, "values": values, "flags": flags, "names": NAMES}


ZSH = """\
#compdef twofile
# made by `twofile completion zsh`; to have it:  source <(twofile completion zsh)
_twofile() {
    local command=run
    local -a commands
    commands=(
%(commands)s    )
    if ((CURRENT == 2)) && [[ $PREFIX != -* ]]; then
        _describe -t commands command commands
        _files
        return
    fi
    case $words[2] in
        (%(names)s)
            command=$words[2]
            shift words
            ((CURRENT--))
            ;;
    esac
    case $command in
%(cases)s    esac
}
if [[ $funcstack[1] == _twofile ]]; then
    _twofile "$@"
else
    compdef _twofile twofile
fi
"""


def zsh():
    """_arguments takes a line a name of a flag; those of one flag exclude each other."""
    commands = "".join(f"        {quoted(f'{c.name}:{c.help}')}\n" for c in COMMANDS)
    cases = ""
    for name, table in tables().items():
        lines = [quoted(text) for flag in table for text in zsh_flag(flag)]
        lines += [quoted("(-h --help)--help[help]"), quoted("*:file:_files")]
        rest = "*" if name == "run" else name
        cases += f"        ({rest})\n            _arguments \\\n"
        cases += " \\\n".join(f"                {line}" for line in lines) + "\n            ;;\n"
        if name == "run":
            run, cases = cases, ""
    for name in ("help", "completion"):
        cases += f"        ({name})\n            _arguments '1:word:({' '.join(behind(name))})'\n"
        cases += "            ;;\n"
    names = NAMES.replace(" ", "|")
    return ZSH % {"commands": commands, "names": names, "cases": cases + run}


def zsh_flag(flag):
    """The lines of _arguments for a flag -> [str]"""
    escaped = lambda text: "".join(f"\\{ch}" if ch in "[]:\\" else ch for ch in text)
    what = kind(flag)
    words = f"({' '.join(what)})" if isinstance(what, list) else ""
    does = {"files": "_files", "folders": "_files -/", None: " "}.get(
        what if not words else "", words
    )
    behind = "" if what == "" else f":{escaped(value(flag))}:{does}"
    others = "*" if flag.how.get("action") == "append" else f"({' '.join(flag.names)})"
    return [f"{others}{name}[{escaped(told(flag))}]{behind}" for name in flag.names]


def fish():
    """A line a flag, under the command that it belongs to."""
    lines = ["# made by `twofile completion fish`; to have it:  twofile completion fish | source"]
    for c in COMMANDS:
        given = f"-a {c.name} -d {quoted(c.help)}"
        lines.append(f"complete -c twofile -n __fish_use_subcommand {given}")
        words = " ".join(behind(c.name))
        if words:
            seen = quoted(f"__fish_seen_subcommand_from {c.name}")
            lines.append(f"complete -c twofile -n {seen} -f -a {quoted(words)}")
    for name, table in tables().items():
        seen = f"__fish_seen_subcommand_from {name}"
        if name == "run":
            seen = f"not __fish_seen_subcommand_from {' '.join((*OWN, 'help', 'completion'))}"
        for flag in table:
            told_of = f"-d {quoted(told(flag))}"
            lines.append(f"complete -c twofile -n {quoted(seen)} {fish_flag(flag)} {told_of}")
    return "\n".join(lines) + "\n"


def fish_flag(flag):
    """The words of complete that say how a flag is written, and what follows it."""
    way = lambda n: f"-l {n[2:]}" if n[:2] == "--" else f"-{'s' if len(n) == 2 else 'o'} {n[1:]}"
    what = kind(flag)
    words = quoted(" ".join(what)) if isinstance(what, list) else ""
    does = {
        "": "",
        "files": "-r -F",
        "folders": "-x -a '(__fish_complete_directories)'",
        None: "-x",
    }
    behind = f"-x -a {words}" if words else does[what]
    return " ".join([*map(way, flag.names), behind]).strip()


def quoted(text):
    """text as one word of a shell, which fish reads as others do."""
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"


def completion(shell):
    """The script of one of SHELLS."""
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell]()
