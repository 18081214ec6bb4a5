// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/census"
)

// node is an element of a document.
type node struct {
	name     string
	attrs    map[string]string
	text     string
	children []*node
}

func parseXML(t *testing.T, text string) *node {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	root := &node{}
	stack := []*node{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		top := stack[len(stack)-1]
		switch e := token.(type) {
		case xml.StartElement:
			n := &node{name: e.Name.Local, attrs: map[string]string{}}
			for _, a := range e.Attr {
				n.attrs[a.Name.Local] = a.Value
			}
			top.children = append(top.children, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(e)
		case xml.Comment, xml.ProcInst, xml.Directive:
			t.Errorf("unexpected in the document: %T", e)
		}
	}
	if len(root.children) != 1 || root.children[0].name != "svg" {
		t.Fatalf("%d roots", len(root.children))
	}
	return root.children[0]
}

// each calls f for all elements, with the place of the nested svg that they are in.
func (n *node) each(x, y float64, f func(n *node, x, y float64)) {
	f(n, x, y)
	if n.name == "svg" && n.attrs["x"] != "" {
		x, y = x+n.number("x"), y+n.number("y")
	}
	for _, c := range n.children {
		c.each(x, y, f)
	}
}

func (n *node) number(name string) float64 {
	f, err := strconv.ParseFloat(n.attrs[name], 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func (n *node) find(name string) []*node {
	var out []*node
	n.each(0, 0, func(c *node, _, _ float64) {
		if c.name == name {
			out = append(out, c)
		}
	})
	return out
}

// box is where something is drawn.
type box struct {
	left, top, right, bottom float64
	what                     string
}

func (b box) meets(o box) bool {
	const eps = 0.01
	return b.left < o.right-eps && o.left < b.right-eps && b.top < o.bottom-eps && o.top < b.bottom-eps
}

// boxes is where everything is drawn, and where texts are.
func boxes(t *testing.T, root *node) (all, texts []box) {
	t.Helper()
	inPattern := map[*node]bool{}
	for _, p := range root.find("pattern") {
		p.each(0, 0, func(n *node, _, _ float64) { inPattern[n] = true })
	}
	clips := map[*node]*node{}
	root.each(0, 0, func(n *node, _, _ float64) {
		for _, c := range n.children {
			if n.name == "svg" && n != root {
				clips[c] = n
			}
		}
	})
	root.each(0, 0, func(n *node, x, y float64) {
		if inPattern[n] || n == root {
			return
		}
		switch n.name {
		case "rect", "svg":
			b := box{what: n.name + " " + n.attrs["class"]}
			if n.attrs["x"] != "" {
				b.left, b.top = x+n.number("x"), y+n.number("y")
			}
			b.right, b.bottom = b.left+n.number("width"), b.top+n.number("height")
			all = append(all, b)
		case "circle":
			r := n.number("r")
			all = append(all, box{n.number("cx") - r, n.number("cy") - r, n.number("cx") + r, n.number("cy") + r, "circle"})
		case "text":
			class := strings.Fields(n.attrs["class"])
			size := sizes[class[0]]
			w := textWidth(n.text, size)
			b := box{x + n.number("x"), y + n.number("y") - size*0.8, 0, y + n.number("y") + size*0.25, n.text}
			if slices.Contains(class, "e") {
				b.left -= w
			}
			if slices.Contains(class, "c") || class[0] == "no" {
				b.left -= w / 2
			}
			b.right = b.left + w
			if clip := clips[n]; clip != nil {
				b.right = min(b.right, x+clip.number("width"))
			}
			if size == 0 || math.IsNaN(b.left+b.top) {
				t.Errorf("a text has no size or place: %q %v", n.text, n.attrs)
			}
			all, texts = append(all, b), append(texts, b)
		case "path":
			all = append(all, pathBox(t, n.attrs["d"]))
		}
	})
	return all, texts
}

// pathBox follows the commands that are used here: M and L to a place, h, v, H and V to a side.
func pathBox(t *testing.T, d string) box {
	t.Helper()
	b := box{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1), "path"}
	var x, y float64
	for len(d) > 0 {
		command := d[0]
		end := 1 + strings.IndexFunc(d[1:], func(r rune) bool { return r >= 'A' && r <= 'z' })
		if end == 0 {
			end = len(d)
		}
		var n []float64
		for _, field := range strings.Fields(d[1:end]) {
			f, err := strconv.ParseFloat(field, 64)
			if err != nil {
				t.Fatalf("path: %q", d[:end])
			}
			n = append(n, f)
		}
		d = d[end:]
		switch command {
		case 'M', 'L':
			x, y = n[0], n[1]
		case 'h':
			x += n[0]
		case 'v':
			y += n[0]
		case 'H':
			x = n[0]
		case 'V':
			y = n[0]
		case 'z':
		default:
			t.Fatalf("path: command %q", command)
		}
		b.left, b.top, b.right, b.bottom = min(b.left, x), min(b.top, y), max(b.right, x), max(b.bottom, y)
	}
	return b
}

// dense is a host whose picture can't be made smaller by drawing neighbours together: six parts, in
// each of which every slot is another's.
func dense(t testing.TB) *census.Atlas {
	s := sight()
	var book []string
	for part := range uint32(6) {
		for i := range uint32(500) {
			at := 200000 + part*650000000 + i*2000
			book = append(book, fmt.Sprintf("%s%d-%d:%d:1000:size=1000", strings.Repeat("\"'<>", 60), part, i, at))
			if i%2 == 0 {
				hold(s, "x", strings.Repeat("&", 200), at, 500)
				enter(s, int(part*1000+i), at+1500, 10)
				s.World.SubUIDs = append(s.World.SubUIDs, s.World.SubUIDs[0])
				last := &s.World.SubUIDs[len(s.World.SubUIDs)-1]
				last.Range.Start, last.Range.Count, last.Owner = at+1200, 20, strings.Repeat("\"", 1000)+fmt.Sprint(i)
				s.World.Host.Users = append(s.World.Host.Users, s.World.Host.Users[0])
				user := &s.World.Host.Users[len(s.World.Host.Users)-1]
				user.ID, user.Name = at+3, strings.Repeat("\x01", 1000)+fmt.Sprint(i)
			}
		}
	}
	return s.Atlas(bookOf(t, book...))
}

func TestMapSVG(t *testing.T) {
	all := hosts(t)
	all["dense"] = dense(t)
	for name, a := range all {
		t.Run(name, func(t *testing.T) {
			text := drawSVG(a)
			if drawSVG(a) != text {
				t.Error("isn't the same again")
			}
			if len(text) > 2_000_000 {
				t.Errorf("%d bytes", len(text))
			}
			root := parseXML(t, text)
			width, height := root.number("width"), root.number("height")
			if root.attrs["viewBox"] != fmt.Sprintf("0 0 %s %s", root.attrs["width"], root.attrs["height"]) || root.attrs["role"] != "img" {
				t.Errorf("root: %v", root.attrs)
			}
			ids := map[string]*node{}
			root.each(0, 0, func(n *node, _, _ float64) {
				if id := n.attrs["id"]; id != "" {
					if ids[id] != nil {
						t.Errorf("id %s is there twice", id)
					}
					ids[id] = n
				}
				for key := range n.attrs {
					if strings.HasPrefix(key, "on") || key == "href" || key == "style" {
						t.Errorf("%s has the attribute %s", n.name, key)
					}
				}
				if !slices.Contains([]string{"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "circle", "g"}, n.name) {
					t.Errorf("unexpected: %s", n.name)
				}
			})
			for _, id := range strings.Fields(root.attrs["aria-labelledby"]) {
				if ids[id] == nil || ids[id].text == "" {
					t.Errorf("labelled by %s, which isn't there", id)
				}
			}
			for rest := text; ; {
				_, after, ok := strings.Cut(rest, "url(#")
				if !ok {
					break
				}
				id, next, _ := strings.Cut(after, ")")
				if rest = next; ids[id] == nil {
					t.Fatalf("pattern %s isn't there", id)
				}
			}
			if strings.Contains(text, "http://") && strings.Count(text, "http://") != 1 || strings.Contains(text, "https://") || strings.Contains(text, "@import") {
				t.Error("needs something from elsewhere")
			}
			boxes, texts := boxes(t, root)
			for _, b := range boxes {
				if b.left < 0 || b.top < 0 || b.right > width+0.01 || b.bottom > height+0.01 || b.right < b.left || b.bottom < b.top || math.IsNaN(b.left+b.top+b.right+b.bottom) {
					t.Errorf("outside of the picture: %+v", b)
				}
			}
			// By height, so that only near ones are compared.
			slices.SortFunc(texts, func(a, b box) int { return int(math.Copysign(1, a.top-b.top)) })
			for i, b := range texts {
				for _, o := range texts[i+1:] {
					if o.top >= b.bottom {
						break
					}
					if b.meets(o) {
						t.Errorf("%q and %q lie over each other: %+v %+v", b.what, o.what, b, o)
					}
				}
			}
			shown := map[string]bool{}
			for _, n := range append(root.find("title"), root.find("text")...) {
				shown[n.text] = true
			}
			for _, o := range a.Owners[:min(len(a.Owners), maxNotes)] {
				if v := shownAs(o.Name, anyDirection); !shown[v] {
					t.Errorf("owner %q is nowhere whole", v)
				}
				if !strings.Contains(ids["um-d"].text, isolated(o.Name)+": ") {
					t.Errorf("owner %q isn't in the description", o.Name)
				}
			}
			// What there are signs of is explained.
			for class, words := range map[string]string{
				"reserved": "reserved", "subids": "/etc/subuid, /etc/subgid", "accounts": "users and groups", "software": "installed software takes IDs",
				"live": "a live user namespace without a lease", "error": "error", "warning": "warning",
			} {
				used := slices.ContainsFunc(root.find("rect"), func(n *node) bool { return n.attrs["class"] == class && len(n.children) > 0 })
				if used && !shown[words] {
					t.Errorf("%s isn't explained", class)
				}
			}
		})
	}
}

// Places are right, to a hundredth.
func TestMapSVGPlaces(t *testing.T) {
	root := parseXML(t, drawSVG(hosts(t)["tiny"])) // a:300000:5, b:300006:1, and [300002-300004) held
	found := 0
	for _, n := range root.find("rect") {
		if len(n.children) == 0 {
			continue
		}
		title := n.children[0].text
		scale := float64(svgRight-svgLeft) / 9 // [299999-300008)
		var from, count float64
		switch {
		case n.number("height") != barHeight:
			continue
		case strings.HasPrefix(title, "a: [300000-300005), 5 IDs, 2 held by 1 (/etc/usernamespaces:1)"):
			from, count = 1, 5
		case strings.HasPrefix(title, "b: 300006, 1 ID, 0 held by 0 (/etc/usernamespaces:2)"):
			from, count = 7, 1
		default:
			t.Errorf("unexpected: %q", title)
			continue
		}
		found++
		if math.Abs(n.number("x")-svgLeft-from*scale) > 0.01 || math.Abs(n.number("width")-count*scale) > 0.01 {
			t.Errorf("%q is at %v", title, n.attrs)
		}
	}
	if found != 2 {
		t.Errorf("%d lines are drawn", found)
	}
}

// What is wrong is never under what may be; and of many lines over each other, not all are drawn.
func TestMapSVGOrder(t *testing.T) {
	for name, a := range hosts(t) {
		var errs []*node
		for _, n := range parseXML(t, drawSVG(a)).find("rect") {
			switch n.attrs["class"] {
			case "error":
				errs = append(errs, n)
			case "warning":
				for _, e := range errs {
					if e.attrs["y"] == n.attrs["y"] && e.number("x") < n.number("x")+n.number("width") && n.number("x") < e.number("x")+e.number("width") {
						t.Errorf("%s: a warning lies over an error: %v, %v", name, n.attrs, e.attrs)
					}
				}
			}
		}
		if name == "ten" && len(errs) < 3 {
			t.Errorf("%d errors are drawn", len(errs))
		}
	}
	lines := 0
	for _, n := range parseXML(t, drawSVG(hosts(t)["pile"])).find("rect") {
		if n.attrs["height"] == fmt.Sprint(barHeight) {
			lines++
		}
	}
	if lines > 10 {
		t.Errorf("of 120 lines over each other, %d are drawn", lines)
	}
}
