package truth

import (
	"math"
	"reflect"
	"time"
	"unsafe"
)

// Random makes values and maps of any type, always the same for the same seed.
type Random struct {
	State uint64
	// Comparable and Other are the dynamic types of interface values; a key takes only comparable ones.
	Comparable, Other []reflect.Type
	// Funcs are the values of func(int) int.
	Funcs []func(int) int
	keys  bool
}

// Plan is the history of a generated map.
type Plan struct {
	Nil     bool
	Hint    int
	Entries int
	Delete  int  // percent of the entries
	Grow    bool // then add entries until a classic map is caught growing
	Again   int  // entries added last
}

// anchor is what a non-nil unsafe.Pointer points at.
var anchor int

// maxNesting ends pointers, slices, maps and interfaces inside each other.
const maxNesting = 3

// Map makes the map of the plan and stores it in the variable that the pointer points at.
func (r *Random) Map(pointer any, p Plan) {
	if p.Nil {
		return
	}
	v := reflect.ValueOf(pointer).Elem()
	v.Set(reflect.MakeMapWithSize(v.Type(), p.Hint))
	keys := r.insert(v, p.Entries)
	for _, k := range keys {
		if int(r.next()%100) < p.Delete {
			v.SetMapIndex(k, reflect.Value{})
		}
	}
	for i := 0; p.Grow && i < 3*p.Entries && !Describe(v.Interface()).Growing(); i++ {
		r.insert(v, 1)
	}
	r.insert(v, p.Again)
}

func (r *Random) insert(m reflect.Value, n int) []reflect.Value {
	keys := make([]reflect.Value, 0, n)
	for i := 0; i < n; i++ {
		keys = append(keys, r.insertOne(m, 0))
	}
	return keys
}

func (r *Random) insertOne(m reflect.Value, nesting int) reflect.Value {
	k, e := reflect.New(m.Type().Key()).Elem(), reflect.New(m.Type().Elem()).Elem()
	outer := r.keys
	r.keys = true
	r.fill(k, nesting)
	r.keys = outer
	r.fill(e, nesting)
	m.SetMapIndex(k, e)
	return k
}

// next is splitmix64, so that the values do not depend on the Go version.
func (r *Random) next() uint64 {
	r.State += 0x9e3779b97f4a7c15
	z := r.State
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *Random) below(n int) int { return int(r.next() % uint64(n)) }

// fill gives an addressable value random contents, blank and unexported fields too.
func (r *Random) fill(v reflect.Value, nesting int) {
	if v.Type() == timeType {
		at := time.Unix(int64(r.next()>>30)-1<<33, int64(r.below(1e9)))
		if r.below(3) == 0 {
			at = at.In(time.FixedZone("here", (r.below(25)-12)*3600))
		} else {
			at = at.UTC()
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.below(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.bits()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(r.bits())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(r.float())
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(r.float(), r.float()))
	case reflect.String:
		v.SetString(r.text())
	case reflect.Array:
		for i := 0; i < v.Len(); i++ {
			r.fill(v.Index(i), nesting)
		}
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			f := v.Field(i)
			r.fill(reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem(), nesting)
		}
	case reflect.Func:
		if n := r.below(len(r.Funcs) + 1); n > 0 {
			v.Set(reflect.ValueOf(r.Funcs[n-1]).Convert(v.Type()))
		}
	case reflect.UnsafePointer:
		if r.below(3) > 0 {
			v.SetPointer(unsafe.Pointer(&anchor))
		}
	default:
		if nesting < maxNesting && r.below(6) > 0 {
			r.fillReference(v, nesting+1)
		}
	}
}

func (r *Random) fillReference(v reflect.Value, nesting int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(v.Elem(), nesting)
	case reflect.Slice:
		n := r.below(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n+r.below(3)))
		for i := 0; i < n; i++ {
			r.fill(v.Index(i), nesting)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := r.below(5); i > 0; i-- {
			r.insertOne(v, nesting)
		}
	case reflect.Chan:
		v.Set(reflect.MakeChan(v.Type(), r.below(4)))
	case reflect.Interface:
		r.fillInterface(v, nesting)
	default:
		panic("no random value for " + v.Type().String())
	}
}

func (r *Random) fillInterface(v reflect.Value, nesting int) {
	types := r.Comparable
	if !r.keys && r.below(2) == 0 {
		types = r.Other
	}
	var fit []reflect.Type
	for _, t := range types {
		if t.Implements(v.Type()) {
			fit = append(fit, t)
		}
	}
	if len(fit) == 0 {
		return
	}
	e := reflect.New(fit[r.below(len(fit))]).Elem()
	r.fill(e, nesting)
	v.Set(e)
}

func (r *Random) bits() uint64 {
	switch x := r.next(); r.below(4) {
	case 0:
		return x % 100
	case 1:
		return -(x % 100)
	default:
		return x
	}
}

func (r *Random) float() float64 {
	switch x := r.next(); r.below(12) {
	case 0:
		return math.NaN()
	case 1:
		return math.Inf(int(x%2)*2 - 1)
	case 2:
		return math.Copysign(0, -1)
	case 3:
		return math.Float64frombits(x)
	default:
		return float64(int64(x)>>40) / 16
	}
}

func (r *Random) text() string {
	n := r.below(16)
	if r.below(40) == 0 {
		n = 300
	}
	b := make([]byte, n)
	raw := r.below(15) == 0
	for i := range b {
		b[i] = byte(r.next())
		if !raw {
			b[i] = ' ' + b[i]%95
		}
	}
	return string(b)
}
