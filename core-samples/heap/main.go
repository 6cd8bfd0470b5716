// Command heap fills memory as a large server does, for benchmarks of what goes over all of it: heap MODE MAPS OBJECTS
// makes so many maps, and so many other objects, and prints how many it made of which bytes.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"mapscope.example/samples/truth"
)

// A shard holds sessions by name; sessions hold maps of several types, and objects that lead to maps and that do not.
type Shard struct {
	sessions map[string]*Session
	recent   []*Session
}

type Session struct {
	ID      uint64
	Name    string
	Attrs   map[string]string
	Counts  map[uint32]int64
	State   any
	first   *Event
	payload [][]byte
}

// Event leads to the session it belongs to, and so to maps.
type Event struct {
	next, prev *Event
	session    *Session
	Kind       string
	at         int64
	data       *Record
}

// Record leads to no map.
type Record struct {
	A, B  int64
	name  *string
	bytes []byte
}

type Flags map[string]bool

var (
	shards        []*Shard
	byID          = map[uint64]*Session{}
	maps, objects int
	entries       int
)

func fill(wanted, others int) {
	const perShard, perSession = 1000, 3
	perMap := others/wanted + 1
	for maps < wanted {
		shard := &Shard{sessions: map[string]*Session{}}
		maps, objects = maps+1, objects+2
		shards = append(shards, shard)
		for i := 0; i < perShard && maps < wanted; i++ {
			shard.add(len(byID))
			// What is due for each of its maps, and no more in the end.
			session := shard.recent[len(shard.recent)-1]
			for made := 0; made < perMap*perSession && objects < others; {
				made += session.event(made)
			}
		}
		entries += len(shard.sessions)
	}
	maps++
	entries += len(byID)
}

func (shard *Shard) add(n int) {
	name := "session " + strconv.Itoa(n)
	s := &Session{ID: uint64(n), Name: name, Attrs: map[string]string{}, Counts: map[uint32]int64{}}
	flags := Flags{}
	s.State = flags
	// Most maps are small, a few are large.
	size := n % 7
	if n%8 == 0 {
		size = 220
	}
	for i := 0; i < size; i++ {
		key := "attribute " + strconv.Itoa(i)
		s.Attrs[key] = name
		s.Counts[uint32(i)] = int64(n)
		flags[key] = i%2 == 0
	}
	entries += 3 * size
	maps, objects = maps+3, objects+3+size
	shard.sessions[name] = s
	shard.recent = append(shard.recent, s)
	byID[s.ID] = s
}

// event adds an event to the session and returns how many objects it took.
func (s *Session) event(n int) int {
	name := "event " + strconv.Itoa(n)
	e := &Event{next: s.first, session: s, Kind: name, at: int64(n), data: &Record{A: int64(n), name: &name, bytes: make([]byte, 40)}}
	if s.first != nil {
		s.first.prev = e
	}
	s.first = e
	made := 5
	if n%30 == 0 {
		s.payload = append(s.payload, make([]byte, 1700))
		made += 2
	}
	objects += made
	return made
}

func main() {
	truth.Start()
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "use: heap wait|abort|exit MAPS OBJECTS")
		os.Exit(2)
	}
	wanted, _ := strconv.Atoi(os.Args[2])
	others, _ := strconv.Atoi(os.Args[3])
	debug.SetGCPercent(30)
	fill(wanted, others)
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	json.NewEncoder(os.Stdout).Encode(map[string]any{"maps": maps, "entries": entries, "objects": objects, "heap": stats.HeapAlloc})
	truth.Ready(truth.Mode())
	runtime.KeepAlive(shards)
}
