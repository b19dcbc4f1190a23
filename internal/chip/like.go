package chip

import (
	"regexp"
	"slices"
	"strings"
)

// nicknames are names that hold no part of the catalogue's.
func nicknames() map[string]string {
	return map[string]string{
		"trillium": "tpu-v6e", "v5litepod": "tpu-v5e", "v5lite": "tpu-v5e", "atlas800ta2": "ascend-910b", "atlas900a2": "ascend-910b", "a2": "ascend-910b", "atlas800ta3": "ascend-910c",
		"atlas900a3": "ascend-910c", "a3": "ascend-910c", "cloudmatrix384": "ascend-910c", "910": "ascend-910a", "hl225": "gaudi2", "hl325": "gaudi3", "trn2": "trainium2",
	}
}

var (
	inNames  = regexp.MustCompile(`[a-z0-9]+`)
	memoryOf = regexp.MustCompile(`^([0-9]+)(g|gb|gib)$`)
	socketOf = regexp.MustCompile(`^sxm[0-9]$`)
	makerOf  = regexp.MustCompile(`^(ascend|nvidia|tpu|rtx|amd)([a-z]?[0-9].*)$`)
)

// parts takes a name apart: "A100-SXM4-80GB" is a100, sxm and 80g.
func parts(name string) []string {
	var all []string
	for _, p := range inNames.FindAllString(strings.ToLower(name), -1) {
		if m := memoryOf.FindStringSubmatch(p); m != nil {
			p = m[1] + "g"
		}
		if socketOf.MatchString(p) {
			p = "sxm"
		}
		if m := makerOf.FindStringSubmatch(p); m != nil {
			all = append(all, m[1])
			p = m[2]
		}
		all = append(all, p)
	}
	return all
}

// model is the part of a chip's name that says which chip it is: the first with a
// digit. Chips that somebody described without naming them have none.
func (c Chip) model() string {
	if strings.HasPrefix(c.Name, "ling-") {
		return ""
	}
	for _, p := range parts(c.Name) {
		if strings.ContainsAny(p, "0123456789") {
			return p
		}
	}
	return ""
}

// Like finds the chip that somebody else calls by another name, "NVIDIA H100 80GB HBM3",
// say: of those of that model the one with which the name has most in common, the
// first of equals. A name that says several models is of none.
func (c Catalogue) Like(name string) (Chip, bool) {
	if found, err := c.Find(strings.ToLower(strings.TrimSpace(name))); err == nil {
		return found, true
	}
	if strings.Contains(name, "+") {
		return Chip{}, false
	}
	said := parts(name)
	for i, p := range said { // "gaudi 2", "mi 300x"
		if i > 0 {
			said = append(said, said[i-1]+p)
		}
	}
	said = append(said, strings.Join(parts(name), ""))
	best, common, models := Chip{}, -1, map[string]bool{}
	for _, chip := range c.chips {
		model := chip.model()
		if model == "" || !slices.ContainsFunc(said, func(p string) bool { return p == model || nicknames()[p] == chip.Name }) {
			continue
		}
		models[model] = true
		if n := shared(said, parts(chip.Name)); n > common {
			best, common = chip, n
		}
	}
	return best, len(models) == 1
}

// shared counts what both have.
func shared(a, b []string) int {
	n := 0
	for _, p := range b {
		if slices.Contains(a, p) {
			n++
		}
	}
	return n
}
