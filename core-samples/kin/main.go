// Command kin parks goroutines by two mistakes of the sample leaks, an explicit zero taken for "not loaded" and a keyed
// lock unlocked under another key, in programs of another shape: other names, types and layouts, locks behind methods,
// interfaces and sync.Map, held by goroutines that have returned. Its second argument names the case.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"mapscope.example/samples/truth"
)

const each = 8

// Waits for a stored zero to change.

type budget struct {
	name string
	open bool
	left int32
}

type budgets struct {
	cond   *sync.Cond
	pad    [3]uint64
	byUser map[string]budget
}

func (b *budgets) await(user string) {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	for !b.byUser[user].open {
		b.cond.Wait()
	}
}

func zeroStruct() {
	b := &budgets{byUser: map[string]budget{"bob": {}, "eve": {"eve", true, 1}}}
	b.cond = sync.NewCond(new(sync.Mutex))
	many("zeroStruct", func() { b.await("bob") })
}

type pool struct {
	sync.Mutex
	ready sync.Cond
	slots map[int64]int32
}

//go:noinline
func (p *pool) left(id int64) int32 { return p.slots[id] }

func (p *pool) take(id int64) {
	p.Lock()
	for p.left(id) == 0 {
		p.ready.Wait()
	}
	p.slots[id]--
	p.Unlock()
}

func zeroMethod() {
	p := &pool{slots: map[int64]int32{7: 0, 9: 3}}
	p.ready.L = p
	many("zeroMethod", func() { p.take(7) })
}

type stock struct {
	mu      *sync.RWMutex
	changed *sync.Cond
	counts  *map[string]uint
}

var shop = func() *stock {
	s := &stock{mu: new(sync.RWMutex), counts: &map[string]uint{"pear": 0, "plum": 2}}
	s.changed = sync.NewCond(s.mu)
	return s
}()

func buy(item string) {
	shop.mu.Lock()
	for {
		if n, ok := (*shop.counts)[item]; ok && n > 0 {
			break
		}
		shop.changed.Wait()
	}
	shop.mu.Unlock()
}

func zeroCommaOk() { many("zeroCommaOk", func() { buy("pear") }) }

// Locks left locked under a key that nobody unlocks.

type tenants struct {
	sync.Mutex
	pad   int
	locks map[string]*sync.Mutex
}

var rooms = &tenants{locks: map[string]*sync.Mutex{}}

func (t *tenants) of(name string) *sync.Mutex {
	t.Lock()
	mu, ok := t.locks[name]
	if !ok {
		mu = &sync.Mutex{}
		t.locks[name] = mu
	}
	t.Unlock()
	return mu
}

func visit(region string) {
	rooms.of("acme:" + region).Lock()
	if region == "" {
		region = "eu"
	}
	other := rooms.of("acme:" + region)
	other.TryLock()
	other.Unlock()
}

func lockPlain() { left("lockPlain", func() { visit("") }) }

type keeper interface{ get(name string) sync.Locker }

type lockers struct {
	mu     sync.RWMutex
	byName map[string]sync.Locker
}

func (l *lockers) get(name string) sync.Locker {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, ok := l.byName[name]; ok {
		return found
	}
	made := new(sync.Mutex)
	l.byName[name] = made
	return made
}

func guarded(k keeper, id int, name string) {
	k.get(fmt.Sprintf("%d_%s", id, name)).Lock()
	if name == "" {
		name = "default"
	}
	other := k.get(fmt.Sprintf("%d_%s", id, name))
	other.(*sync.Mutex).TryLock()
	other.Unlock()
}

func lockInterface() {
	var k keeper = &lockers{byName: map[string]sync.Locker{}}
	left("lockInterface", func() { guarded(k, 7, "") })
}

type entry struct {
	users int
	mu    sync.RWMutex
	note  string
}

type entries struct {
	guard *sync.Mutex
	all   map[string]*entry
}

func (e *entries) entry(name string) *entry {
	e.guard.Lock()
	defer e.guard.Unlock()
	if e.all[name] == nil {
		e.all[name] = &entry{note: name}
	}
	return e.all[name]
}

func (e *entries) lock(name string) { e.entry(name).mu.Lock() }

func (e *entries) unlock(name string) {
	found := e.entry(name)
	found.mu.TryLock()
	found.mu.Unlock()
}

func lockEntry() {
	e := &entries{guard: new(sync.Mutex), all: map[string]*entry{}}
	left("lockEntry", func() {
		e.lock("host:")
		e.unlock("host:80")
	})
}

type pair struct{ tenant, user string }

var perUser = map[pair]*sync.Mutex{}
var perUserMu sync.Mutex

func userLock(p pair) *sync.Mutex {
	perUserMu.Lock()
	defer perUserMu.Unlock()
	if perUser[p] == nil {
		perUser[p] = new(sync.Mutex)
	}
	return perUser[p]
}

func lockStruct() {
	left("lockStruct", func() {
		userLock(pair{"acme", "Bob"}).Lock()
		other := userLock(pair{"acme", "bob"})
		other.TryLock()
		other.Unlock()
	})
}

var inSync sync.Map

func syncLock(name string) *sync.Mutex {
	mu, _ := inSync.LoadOrStore(name, new(sync.Mutex))
	return mu.(*sync.Mutex)
}

func lockSync() {
	left("lockSync", func() {
		syncLock("9_").Lock()
		other := syncLock("9_default")
		other.TryLock()
		other.Unlock()
	})
}

var parked []truth.Parked

// many parks goroutines that all wait in f.
func many(name string, f func()) {
	for i := 0; i < each; i++ {
		parked = append(parked, truth.Park(name, f))
	}
}

// left runs f once in a goroutine that returns, which leaves its lock locked, and then parks others in it.
func left(name string, f func()) {
	first := make(chan bool)
	go func() {
		f()
		close(first)
	}()
	<-first
	many(name, f)
}

var cases = map[string]func(){
	"zero-struct": zeroStruct, "zero-method": zeroMethod, "zero-comma-ok": zeroCommaOk,
	"lock-plain": lockPlain, "lock-interface": lockInterface, "lock-entry": lockEntry,
	"lock-struct": lockStruct, "lock-sync": lockSync,
}

func main() {
	truth.Start()
	run, ok := cases[os.Args[2]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such case:", os.Args[2])
		os.Exit(2)
	}
	run()
	json.NewEncoder(os.Stdout).Encode(map[string]any{"case": os.Args[2], "waits": parked})
	truth.Ready(truth.Mode())
}
