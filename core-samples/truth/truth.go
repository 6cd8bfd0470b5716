// Package truth lets a sample program print what its own maps hold, one JSON
// document a line, in the value form that mapscope prints. It is the oracle of
// mapscope's tests, so it asks the language itself (range, reflect) for the
// entries; it looks at the runtime's own structures only for the header facts.
//
// Depth: the key and the elem of an entry are at depth 0. Following a pointer
// adds one; a pointer is followed while the depth is below Depth, and is
// written {"$ptr":"0x…"} otherwise. Structs, arrays, slices, interfaces and
// maps inside a value add nothing. With Depth 3, p -> q -> r -> s shows the
// targets of p, q and r.
package truth

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Depth is how many pointers are followed, one behind the other.
var Depth = 3

var out = bufio.NewWriterSize(os.Stdout, 1<<16)

// Entry is one key and elem of a map whose entries the program keeps a record of itself.
type Entry struct{ Key, Elem any }

// Start turns the collector off, so that no state the program sets up is undone.
func Start() { debug.SetGCPercent(-1) }

// Map prints the map that the pointer points at. The name is the expression by
// which mapscope finds it; the note says what state the map is in.
func Map(name string, pointer any, note string) {
	v := reflect.ValueOf(pointer).Elem()
	print(name, v, note)
}

// Interface prints the map held by the interface variable that the pointer points at.
func Interface(name string, pointer *any, note string) {
	print(name, addressable(reflect.ValueOf(*pointer)), note)
}

// Unlisted prints everything about a map but its entries: for maps that contain themselves
// and for maps too big to list.
func Unlisted(name string, pointer any, note string) {
	v := reflect.ValueOf(pointer).Elem()
	line(name, v.Type().String(), uintptr(v.UnsafePointer()), v.Len(), note, Describe(v.Interface()).json(), "")
}

// SyncMap prints a sync.Map from the program's own record of what it stored, because
// Range itself would move the map to another state.
func SyncMap(name string, address unsafe.Pointer, header string, entries []Entry, note string) {
	var b strings.Builder
	for i := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		writeEntry(&b, reflect.ValueOf(&entries[i].Key).Elem(), reflect.ValueOf(&entries[i].Elem).Elem())
	}
	lineOf("sync", name, "sync.Map", uintptr(address), len(entries), note, header, "["+b.String()+"]")
}

func print(name string, v reflect.Value, note string) {
	var b strings.Builder
	writeEntries(&b, v, 0)
	// The header comes after the walk: a range sets the iterator flags.
	header := Describe(v.Interface()).json()
	line(name, v.Type().String(), uintptr(v.UnsafePointer()), v.Len(), note, header, b.String())
}

func line(name, typ string, address uintptr, n int, note, header, entries string) {
	layout := "classic"
	if Swiss {
		layout = "swiss"
	}
	lineOf(layout, name, typ, address, n, note, header, entries)
}

func lineOf(layout, name, typ string, address uintptr, n int, note, header, entries string) {
	fmt.Fprintf(out, `{"name":%s,"type":%s,"address":"0x%x","len":%d,"layout":"%s","note":%s,"header":%s,"depth":%d`,
		quote(name), quote(typ), address, n, layout, quote(note), header, Depth)
	if entries != "" {
		fmt.Fprintf(out, `,"entries":%s`, entries)
	}
	out.WriteString("}\n")
}

// Ready says that all truth is printed and the program is in its final state, then does what
// the mode asks: "wait" stays until it is killed or MAPSCOPE_SAMPLE_SECONDS (1800) have passed,
// "abort" dies by SIGABRT leaving a core, "exit" returns.
func Ready(mode string) {
	Announce()
	switch mode {
	case "exit":
	case "abort":
		AbortSoon()
		wait()
	case "wait":
		wait()
	default:
		fmt.Fprintf(os.Stderr, "unknown mode %q: use wait, abort or exit\n", mode)
		os.Exit(2)
	}
}

// Mode is the first argument of the program, "wait" if there is none.
func Mode() string {
	if len(os.Args) > 1 {
		return os.Args[1]
	}
	return "wait"
}

// Announce prints the line that says all truth is out.
func Announce() {
	fmt.Fprintf(out, "READY pid=%d\n", os.Getpid())
	out.Flush()
}

// AbortSoon kills the program with SIGABRT while the caller goes on to the state that the core shall show.
func AbortSoon() {
	debug.SetTraceback("crash")
	time.AfterFunc(10*time.Millisecond, func() { syscall.Kill(os.Getpid(), syscall.SIGABRT) })
}

// Value is a value in the form of the truth; the pointer points at it.
func Value(pointer any) string {
	var b strings.Builder
	write(&b, reflect.ValueOf(pointer).Elem(), 0)
	return b.String()
}

func wait() {
	seconds, err := strconv.Atoi(os.Getenv("MAPSCOPE_SAMPLE_SECONDS"))
	if err != nil {
		seconds = 1800
	}
	go func() {
		time.Sleep(time.Duration(seconds) * time.Second)
		os.Exit(3)
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	os.Exit(0)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func writeEntries(b *strings.Builder, m reflect.Value, depth int) {
	b.WriteByte('[')
	for i, it := 0, m.MapRange(); it.Next(); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		writeEntryAt(b, addressable(it.Key()), addressable(it.Value()), depth)
	}
	b.WriteByte(']')
}

func writeEntry(b *strings.Builder, key, elem reflect.Value) { writeEntryAt(b, key, elem, 0) }

func writeEntryAt(b *strings.Builder, key, elem reflect.Value, depth int) {
	b.WriteString(`{"key":`)
	write(b, key, depth)
	b.WriteString(`,"elem":`)
	write(b, elem, depth)
	b.WriteByte('}')
}

// addressable copies a value to where its unexported fields can be reached.
func addressable(v reflect.Value) reflect.Value {
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Elem()
}

var timeType = reflect.TypeOf(time.Time{})

// write appends an addressable value.
func write(b *strings.Builder, v reflect.Value, depth int) {
	if v.Type() == timeType {
		fmt.Fprintf(b, `{"$time":%s}`, quote(v.Interface().(time.Time).Format(time.RFC3339Nano)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32:
		writeFloat(b, v.Float(), 32)
	case reflect.Float64:
		writeFloat(b, v.Float(), 64)
	case reflect.Complex64, reflect.Complex128:
		c, half := v.Complex(), v.Type().Bits()/2
		b.WriteString(`{"$complex":[`)
		writeFloat(b, real(c), half)
		b.WriteByte(',')
		writeFloat(b, imag(c), half)
		b.WriteString(`]}`)
	case reflect.String:
		if s := v.String(); utf8.ValidString(s) {
			b.WriteString(quote(s))
		} else {
			writeBytes(b, []byte(s))
		}
	case reflect.Array:
		writeList(b, v, depth)
	case reflect.Slice:
		switch {
		case v.IsNil():
			b.WriteString("null")
		case v.Type().Elem().Kind() == reflect.Uint8:
			writeBytes(b, v.Bytes())
		default:
			writeList(b, v, depth)
		}
	case reflect.Struct:
		writeStruct(b, v, depth)
	case reflect.Map:
		if v.IsNil() {
			b.WriteString("null")
		} else {
			writeEntries(b, v, depth)
		}
	case reflect.Interface:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		fmt.Fprintf(b, `{"$type":%s,"$value":`, quote(v.Elem().Type().String()))
		write(b, addressable(v.Elem()), depth)
		b.WriteByte('}')
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		fmt.Fprintf(b, `{"$ptr":"0x%x"`, v.Pointer())
		if depth < Depth {
			b.WriteString(`,"$elem":`)
			write(b, v.Elem(), depth+1)
		}
		b.WriteByte('}')
	case reflect.UnsafePointer:
		if v.IsNil() {
			b.WriteString("null")
		} else {
			fmt.Fprintf(b, `{"$ptr":"0x%x"}`, v.Pointer())
		}
	case reflect.Func:
		if v.IsNil() {
			b.WriteString("null")
		} else {
			fmt.Fprintf(b, `{"$func":%s}`, quote(runtime.FuncForPC(v.Pointer()).Name()))
		}
	case reflect.Chan:
		if v.IsNil() {
			b.WriteString("null")
		} else {
			fmt.Fprintf(b, `{"$chan":"0x%x","len":%d,"cap":%d}`, v.Pointer(), v.Len(), v.Cap())
		}
	default:
		panic("no form for " + v.Type().String())
	}
}

func writeList(b *strings.Builder, v reflect.Value, depth int) {
	b.WriteByte('[')
	for i := 0; i < v.Len(); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		write(b, v.Index(i), depth)
	}
	b.WriteByte(']')
}

func writeStruct(b *strings.Builder, v reflect.Value, depth int) {
	b.WriteByte('{')
	for i, first := 0, true; i < v.NumField(); i++ {
		f := v.Type().Field(i)
		if f.Name == "_" {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(quote(f.Name))
		b.WriteByte(':')
		// By address, because reflect refuses to read what it took from an unexported field.
		write(b, reflect.NewAt(f.Type, unsafe.Pointer(v.Field(i).UnsafeAddr())).Elem(), depth)
	}
	b.WriteByte('}')
}

func writeBytes(b *strings.Builder, data []byte) {
	fmt.Fprintf(b, `{"$bytes":"%s"}`, base64.StdEncoding.EncodeToString(data))
}

// writeFloat lets encoding/json choose the digits; what it refuses is named as strconv does.
func writeFloat(b *strings.Builder, f float64, bits int) {
	var data []byte
	var err error
	if bits == 32 {
		data, err = json.Marshal(float32(f))
	} else {
		data, err = json.Marshal(f)
	}
	if err != nil {
		fmt.Fprintf(b, `{"$float":"%s"}`, strconv.FormatFloat(f, 'g', -1, bits))
		return
	}
	b.Write(data)
}
