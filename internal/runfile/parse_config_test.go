package runfile

import (
	"reflect"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// A model from elsewhere replaces the section, but for what the file says about how
// a model is trained.
func TestWithConfigKeepsWhatTheFileSaysAboutTraining(t *testing.T) {
	r, err := Parse("run.yaml", []byte("model:\n  dim: 64\n  balance_coef: 0.5\n  routing_warmup_tokens: 900\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	got := r.WithConfig(cfg, "there")
	cfg.BalanceCoef, cfg.RoutingWarmupTokens = 0.5, 900
	if !reflect.DeepEqual(got.Model, Model{From: "there", Config: cfg}) {
		t.Errorf("%+v", got.Model)
	}
}
