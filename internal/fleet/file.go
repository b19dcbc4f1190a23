package fleet

import (
	"errors"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/sheet"
)

// Format is the newest format of fleet files that is read. History (append only):
//
//	1  first version
const Format = 1

// file is what stands in a fleet file, key for key.
type file struct {
	Format      int         `yaml:"format"`
	Name        string      `yaml:"name"`
	Currency    string      `yaml:"currency"`
	Rates       []rateEntry `yaml:"rates"`
	Pools       []poolEntry `yaml:"pools"`
	Links       []linkEntry `yaml:"links"`
	Syncers     hostsEntry  `yaml:"syncers"`
	Controllers paidEntry   `yaml:"controllers"`
	Islands     int         `yaml:"islands"`
	Period      sheet.Count `yaml:"period"`
	MaxIslands  int         `yaml:"max_islands"`
	MaxPeriod   sheet.Count `yaml:"max_period"`
	MaxLoss     float64     `yaml:"max_loss"`
	Losses      []lossEntry `yaml:"losses"`
}

type rateEntry struct {
	From string  `yaml:"from"`
	To   string  `yaml:"to"`
	Rate float64 `yaml:"rate"`
	Date string  `yaml:"date"`
}

type poolEntry struct {
	Name    string       `yaml:"name"`
	Chip    string       `yaml:"chip"`
	Count   int          `yaml:"count"`
	Prices  []priceEntry `yaml:"prices"`
	Use     string       `yaml:"use"`
	From    string       `yaml:"from"`
	Until   string       `yaml:"until"`
	Network rateValue    `yaml:"network"`
	Memory  bytesValue   `yaml:"host_memory"`
	Figures figures      `yaml:"figures"`
}

type priceEntry struct {
	Amount   *float64 `yaml:"amount"`
	Currency string   `yaml:"currency"`
	Per      string   `yaml:"per"`
	Kind     string   `yaml:"kind"`
	Date     string   `yaml:"date"`
	Source   string   `yaml:"source"`
}

type linkEntry struct {
	Between []string   `yaml:"between"`
	Rate    rateValue  `yaml:"rate"`
	Price   priceEntry `yaml:"price"`
}

type hostsEntry struct {
	Count  int        `yaml:"count"`
	Memory bytesValue `yaml:"memory"`
	Link   rateValue  `yaml:"link"`
	Near   string     `yaml:"near"`
	Price  priceEntry `yaml:"price"`
}

type paidEntry struct {
	Count int        `yaml:"count"`
	Price priceEntry `yaml:"price"`
}

type lossEntry struct {
	Islands int         `yaml:"islands"`
	Period  sheet.Count `yaml:"period"`
	Loss    float64     `yaml:"loss"`
}

// figures are those of a pool's own chips. All but efficiency are fields of the
// catalogue, in its units.
type figures struct {
	Efficiency figure `yaml:"efficiency"`
	BF16       figure `yaml:"bf16"`
	FP16       figure `yaml:"fp16"`
	FP8        figure `yaml:"fp8"`
	FP4        figure `yaml:"fp4"`
	Memory     figure `yaml:"memory"`
	Bandwidth  figure `yaml:"bandwidth"`
	Link       figure `yaml:"link"`
	LinkPair   figure `yaml:"link_pair"`
	LinkGroup  figure `yaml:"link_group"`
	NodeChips  figure `yaml:"node_chips"`
	NIC        figure `yaml:"nic"`
	HostLink   figure `yaml:"host_link"`
	MTBF       figure `yaml:"mtbf"`
}

// efficiencyKey is the one figure that is no field of the catalogue.
const efficiencyKey = "efficiency"

// figure is a number or range, alone or with what is said of it.
type figure struct {
	Value   string `yaml:"value"`
	Assumed bool   `yaml:"assumed"`
	Source  string `yaml:"source"`
}

// SetText makes figure a sheet.Texter: the short form.
func (f *figure) SetText(text string) error {
	f.Value = text
	return nil
}

// Wanted makes figure a sheet.Texter.
func (*figure) Wanted() string { return "a number such as 64, or a range such as 0.35..0.45" }

// rateValue is bytes/s.
type rateValue float64

// SetText makes rateValue a sheet.Texter.
func (v *rateValue) SetText(text string) error {
	x, err := scaled(text, map[string]float64{"Gbit/s": 1e9 / 8, "Mbit/s": 1e6 / 8, "GB/s": 1e9, "MB/s": 1e6})
	*v = rateValue(x)
	return err
}

// Wanted makes rateValue a sheet.Texter.
func (*rateValue) Wanted() string { return "a rate such as 100 Gbit/s or 12.5 GB/s" }

// bytesValue is bytes.
type bytesValue float64

// SetText makes bytesValue a sheet.Texter.
func (v *bytesValue) SetText(text string) error {
	x, err := scaled(text, map[string]float64{"GB": 1e9, "GiB": 1 << 30, "TB": 1e12, "TiB": 1 << 40})
	*v = bytesValue(x)
	return err
}

// Wanted makes bytesValue a sheet.Texter.
func (*bytesValue) Wanted() string { return "an amount of memory such as 512 GB" }

var errQuantity = errors.New("is no quantity")

// scaled reads a number above 0 with its unit.
func scaled(text string, units map[string]float64) (float64, error) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	scale, ok := units[strings.TrimSpace(unit)]
	v, err := chip.ParseValue(number)
	x, exact := v.Exact()
	if err != nil || !ok || !exact {
		return 0, errQuantity
	}
	return x * scale, nil
}

// numbers cuts the unit off a figure that may have one.
func (f figure) numbers(unit string) (chip.Value, error) {
	text := strings.TrimSpace(f.Value)
	if unit != "" {
		text = strings.TrimSpace(strings.TrimSuffix(text, unit))
	}
	return chip.ParseValue(text)
}

// dayLayout is how dates are written.
const dayLayout = "2006-01-02"

func entryPath(list string, i int) string { return list + "." + strconv.Itoa(i) }
