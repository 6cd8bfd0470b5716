#!/bin/sh
# A tour of the verbs in gdb, on the two committed cores: one classic (Go 1.23), one Swiss (Go 1.27).
set -eu
cd "$(dirname "$0")/.."

tour() {
    name=$1
    shift
    directory=$(python3 core-samples/unpack.py | grep "$name")
    printf '\n=== %s ===\n' "$name"
    set -- "$@" --
    while [ "$1" != -- ]; do
        command=$1
        shift
        set -- "$@" -ex "echo \\n(gdb) $(printf '%s' "$command" | sed 's/\\/\\\\/g; s/"/\\"/g')\\n" -ex "$command"
    done
    shift
    gdb -nx -q -batch -iex 'set auto-load off' -iex 'set print thread-events off' -x gdbinit \
        "$directory/demo" "$directory/core" "$@" 2>&1 |
        sed -n '/^(gdb)/,$p'
}

tour swiss \
    'gomap print main.M0' \
    'gomap print main.cache --limit 3 --sort key' \
    'gomap print main.cache --where elem.Total>990 --json' \
    'gomap get main.service.stock "pear"' \
    'gomap get main.service.stock "fig"' \
    'gomap why main.replies "customer-3"' \
    'gomap stats main.cache' \
    'gomap buckets main.status 0-1' \
    'gomap check --all' \
    'gomap list --limit 6' \
    "print 'main.service'.stock" \
    'print $gomap_len(main.cache)' \
    "gomap goroutines --state 'chan receive (nil chan)' --stack" \
    'gomap leaks' \
    'gomap explain 23'

tour classic \
    'gomap print main.M0' \
    'gomap stats main.service.orders' \
    'gomap buckets main.M0' \
    'gomap get main.replies "customer-3 "' \
    'gomap check main.cache'

printf '\n=== evidence: profile, trace and core of one run ===\n'
directory=$(python3 core-samples/unpack.py | grep swiss)
report=target/demo-report.html
mkdir -p target
gdb -nx -q -batch -iex 'set auto-load off' -iex 'set print thread-events off' -x gdbinit "$directory/demo" "$directory/core" \
    -ex "gomap evidence --profile $directory/stacks.txt --trace $directory/trace.out --map main.replies --key \"customer-3\" -o $report" \
    >/dev/null
test -s "$report"
grep -o '<h1 id="verdict">[^<]*' "$report" | sed 's/.*>//'
printf 'The report of it is in %s: open it in a browser.\n' "$report"
