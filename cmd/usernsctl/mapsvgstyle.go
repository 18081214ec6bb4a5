// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// hues are those of Okabe and Ito that aren't used for errors and warnings: they are told
// apart with the common forms of colour blindness (https://jfly.uni-koeln.de/color/).
var hues = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d46"}

// weaves are the patterns, so that a colour is never the only sign. There are as many as have
// no common divisor with the hues: so no two of the first thirty owners look alike.
var weaves = []string{
	"M-1 1l2-2M0 8l8-8M7 9l2-2",
	"M-1 7l2 2M0 0l8 8M7-1l2 2",
	"M0 2h8M0 6h8",
	"M2 2h1v1h-1zM6 6h1v1h-1z",
	"M2 0v8M6 0v8",
}

const maxStyles = 30

// fills are the patterns of an owner: of what is free, and of what is held.
func (m *svgMap) fills(owner string) (free, held string) {
	if i, ok := m.styles[owner]; ok {
		return fmt.Sprintf("f%d", i), fmt.Sprintf("h%d", i)
	}
	return "rest", "hrest"
}

// sizes are those of the classes of text.
var sizes = map[string]float64{"h1": 20, "h2": 14, "p": 13, "s": 12, "m": 11.5, "ax": 11, "th": 11, "td": 12, "no": 12}

// monoEm is the width of a character in a font of fixed width, and more than the mean of
// others, in sizes of the font.
const monoEm = 0.61

func textWidth(text string, size float64) float64 {
	w := 0.0
	for _, r := range text {
		switch {
		case r < 0x530:
			w += monoEm
		case runeCells(r) == 2:
			w += 1.25
		default:
			w++
		}
	}
	return w * size
}

// text writes one line at the height that the picture has reached. The first word of the
// class says how large it is.
func (m *svgMap) text(x float64, class, text string) {
	fmt.Fprintf(&m.body, "<text class=\"%s\" x=\"%s\" y=\"%s\">%s</text>\n", class, num(x), num(m.y), escaped(text))
}

// paragraph writes as many lines as a text needs.
func (m *svgMap) paragraph(class, text string) {
	size := sizes[class]
	for _, line := range wrap(text, int((svgRight-svgMargin)/(size*monoEm))) {
		m.y += size + 6
		m.text(svgMargin, class, line)
	}
}

// clipped writes a name in no more than its room, shortened, and the whole of it as its title. Fonts
// of rare scripts may be wider than is thought here, so what isn't ASCII can't be seen outside
// of its room either.
func (m *svgMap) clipped(x, room float64, class, name string) {
	size := sizes[class]
	shown := shownAs(name, anyDirection)
	for n := cellsOf(shown); textWidth(shown, size) > room && n > 1; n-- {
		shown = shorten(shownAs(name, anyDirection), n-1, "…")
	}
	ascii := strings.IndexFunc(strings.TrimSuffix(shown, "…"), func(r rune) bool { return r > 0x7e }) < 0
	title := ""
	if shown != name {
		title = "<title>" + escaped(shownAs(name, anyDirection)) + "</title>"
	}
	if ascii {
		fmt.Fprintf(&m.body, "<text class=\"%s\" x=\"%s\" y=\"%s\">%s%s</text>\n", class, num(x), num(m.y), title, escaped(shown))
		return
	}
	fmt.Fprintf(&m.body, "<svg x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" overflow=\"hidden\"><text class=\"%s\" x=\"0\" y=\"%s\">%s%s</text></svg>\n",
		num(x), num(m.y-size), num(room), num(size*1.4), class, num(size), title, escaped(shown))
}

// num is a number with two decimals at most.
func num(f float64) string {
	text := strconv.FormatFloat(f, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// escaped is a text for XML.
func escaped(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder takes everything
	return out.String()
}

// isolated is a name in the midst of other words, whose order it can't change.
func isolated(name string) string {
	name = shownAs(name, anyDirection)
	if strings.IndexFunc(name, rightToLeft) < 0 {
		return name
	}
	return "\u2068" + name + "\u2069" // FIRST STRONG ISOLATE, POP DIRECTIONAL ISOLATE
}

// head is the style sheet and the patterns.
func (m *svgMap) head() string {
	var out strings.Builder
	out.WriteString("<style>\n")
	out.WriteString(`.um text { font-family: system-ui, "DejaVu Sans", sans-serif; fill: #1f2328; }
.um .m, .um .td, .um .ax { font-family: "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace; }
`)
	for _, class := range []string{"h1", "h2", "p", "s", "m", "ax", "th", "td", "no"} {
		fmt.Fprintf(&out, ".um .%s { font-size: %spx; }\n", class, num(sizes[class]))
	}
	out.WriteString(`.um .h1, .um .h2 { font-weight: 600; } .um .e { text-anchor: end; } .um .c, .um .no { text-anchor: middle; }
.um .ax, .um .th, .um .s { fill: #57606a; } .um .no { fill: #ffffff; font-weight: 600; }
.um .bg { fill: #ffffff; } .um .track { fill: #f2f4f7; } .um .rule, .um .lead { fill: none; stroke: #8b949e; }
.um .badge { fill: #1f2328; } .um .line { stroke: #1f2328; stroke-width: .7; } .um .over, .um .run { stroke: none; }
.um .tint { opacity: .2; } .um .gap { stroke: #ffffff; fill: none; stroke-width: 1; opacity: .75; }
.um .ink { fill: none; } .um .grey { fill: #8b949e; stroke: #8b949e; }
.um .reserved { fill: url(#um-reserved); stroke: #57606a; stroke-width: .7; } .um .reserved0 { stroke: #57606a; fill: none; }
.um .accounts { fill: #57606a; } .um .subids { fill: #8c959f; } .um .software { fill: url(#um-software); }
.um .software0 { fill: #57606a; } .um .live { fill: #8250df; } .um .pins { fill: #1b7c83; }
.um .error { fill: url(#um-error); } .um .error0 { fill: #d1242f; } .um .error1 { stroke: #ffffff; fill: none; stroke-width: 1.5; }
.um .warning { fill: url(#um-warning); } .um .warning0 { fill: #f0e442; } .um .warning1 { fill: #7a6000; }
.um .unknown { fill: url(#um-u); } .um .mixed { fill: url(#um-mixed); } .um .rest { fill: url(#um-rest); }
.um .q { font-size: 9px; }
@media (prefers-color-scheme: dark) {
.um text { fill: #e6edf3; } .um .ax, .um .th, .um .s { fill: #9da7b3; } .um .no { fill: #0d1117; }
.um .bg { fill: #0d1117; } .um .track { fill: #1c2128; } .um .rule, .um .lead { stroke: #6e7681; }
.um .badge { fill: #e6edf3; } .um .line { stroke: #e6edf3; } .um .gap { stroke: #0d1117; }
.um .tint { opacity: .3; } .um .reserved { stroke: #9da7b3; } .um .reserved0 { stroke: #9da7b3; }
.um .accounts { fill: #9da7b3; } .um .subids { fill: #6e7681; } .um .software0 { fill: #9da7b3; } .um .live { fill: #a371f7; } .um .pins { fill: #39c5cf; }
.um .error0 { fill: #f85149; } .um .error1 { stroke: #0d1117; } .um .warning1 { fill: #3d3000; }
`)
	out.WriteString("}\n</style>\n<defs>\n")
	pattern := func(name, body string) {
		fmt.Fprintf(&out, "<pattern id=\"um-%s\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">%s</pattern>\n", name, body)
	}
	tile := func(class, more string) string {
		return "<rect class=\"" + class + "\" width=\"8\" height=\"8\"" + more + "/>"
	}
	for i := range max(len(m.styles), 1) {
		hue, weave := hues[i%len(hues)], weaves[i%len(weaves)]
		pattern(fmt.Sprintf("f%d", i), tile("tint", ` fill="`+hue+`"`)+fmt.Sprintf(`<path class="ink" stroke="%s" d="%s"/>`, hue, weave))
		pattern(fmt.Sprintf("h%d", i), tile("full", ` fill="`+hue+`"`)+fmt.Sprintf(`<path class="gap" d="%s"/>`, weave))
	}
	cross := "M0 0l8 8M0 8l8-8"
	pattern("rest", tile("tint grey", "")+`<path class="ink grey" d="`+cross+`"/>`)
	pattern("hrest", tile("grey", "")+`<path class="gap" d="`+cross+`"/>`)
	pattern("mixed", tile("tint grey", "")+`<path class="ink grey" d="M4 0v8M0 4h8"/>`)
	pattern("hm", tile("grey", "")+`<path class="gap" d="M4 0v8M0 4h8"/>`)
	pattern("u", `<text class="q" x="1.5" y="8">?</text>`)
	pattern("reserved", `<path class="reserved0" d="M0 0l8 8M0 8l8-8"/>`)
	pattern("software", `<path class="software0" d="M0 0h4v4h-4zM4 4h4v4h-4z"/>`)
	pattern("error", tile("error0", "")+`<path class="error1" d="M-1 1l2-2M0 8l8-8M7 9l2-2"/>`)
	pattern("warning", tile("warning0", "")+`<path class="warning1" d="M1 1h2v2h-2zM5 5h2v2h-2z"/>`)
	out.WriteString("</defs>\n")
	return out.String()
}
