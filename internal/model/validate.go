package model

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mistura-project/mistura/internal/fault"
)

// maxExtent bounds every integer of a configuration, so that sizes computed
// from them cannot overflow.
const maxExtent = 1 << 24

// maxElements bounds the whole model.
const maxElements = 1 << 42

// maxExperts bounds the experts of one layer, maxAllExperts those of all layers together,
// and so the number of tensors, which are listed one by one. The largest models that are
// published have some tens of thousands.
const (
	maxExperts    = 1 << 16
	maxAllExperts = 1 << 18
)

// Validate gives nil or a *fault.Input that names the first bad field as it is
// spelled in a run file, its value, and what would be allowed.
func (c Config) Validate() error {
	for _, check := range []func() error{
		c.validateShape, c.validateAttention, c.validateExperts, c.validateReals, c.validateSize,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateShape() error {
	return firstError(
		inRange("vocab", c.Vocab, 2, maxExtent),
		inRange("dim", c.Dim, 1, maxExtent),
		inRange("layers", c.Layers, 1, 4096),
		inRange("dense_layers", c.DenseLayers, 0, c.Layers),
	)
}

func (c Config) validateAttention() error {
	if err := firstError(
		inRange("heads", c.Heads, 1, maxExtent),
		inRange("kv_heads", c.KVHeads, 1, c.Heads),
		inRange("head_dim", c.HeadDim, 2, maxExtent),
	); err != nil {
		return err
	}
	if c.Heads%c.KVHeads != 0 {
		return bad("heads", strconv.Itoa(c.Heads),
			fmt.Sprintf("is not a multiple of kv_heads, which is %d", c.KVHeads),
			fmt.Sprintf("use a multiple of %d, or a kv_heads that divides %d", c.KVHeads, c.Heads))
	}
	if c.HeadDim%2 != 0 {
		return bad("head_dim", strconv.Itoa(c.HeadDim), "is odd, and rotary positions turn pairs of elements",
			fmt.Sprintf("use an even number such as %d", c.HeadDim+1))
	}
	if c.RotaryDims%2 != 0 {
		return bad("rotary_dims", strconv.Itoa(c.RotaryDims), "is odd, and rotary positions turn pairs of elements",
			fmt.Sprintf("use an even number up to %d, or 0 for all", c.HeadDim))
	}
	return inRange("rotary_dims", c.RotaryDims, 0, c.HeadDim)
}

func (c Config) validateExperts() error {
	if c.DenseLayers > 0 {
		if err := inRange("dense_ffn", c.DenseFFN, 1, maxExtent); err != nil {
			return err
		}
	}
	if c.Router != Softmax && c.Router != Sigmoid {
		return bad("router", c.Router, "is not a kind of router", "choose "+Softmax+" or "+Sigmoid)
	}
	least := 1
	if c.DenseLayers == c.Layers {
		least = 0 // nothing has experts
	}
	if err := firstError(
		inRange("experts", c.Experts, least, min(maxExperts, maxAllExperts/c.Layers)),
		inRange("top_k", c.TopK, least, c.Experts),
		inRange("expert_ffn", c.ExpertFFN, least, maxExtent),
		inRange("shared_experts", c.SharedExperts, 0, 1<<10),
	); err != nil {
		return err
	}
	return c.validateRouting()
}

func (c Config) validateRouting() error {
	if err := firstError(
		inRange("expert_groups", c.ExpertGroups, 0, c.Experts),
		atLeast("routed_scale", c.RoutedScale, 0),
		atLeast("bias_rate", c.BiasRate, 0),
		atLeast("routing_warmup_tokens", float64(c.RoutingWarmupTokens), 0),
	); err != nil {
		return err
	}
	if c.RoutingWarmupTokens > 0 {
		if err := inRange("routing_warmup_window", c.RoutingWarmupWindow, 1, maxExtent); err != nil {
			return err
		}
	}
	if !c.Grouped() {
		return nil
	}
	if c.Experts%c.ExpertGroups != 0 {
		return bad("expert_groups", strconv.Itoa(c.ExpertGroups), fmt.Sprintf("does not divide experts, which is %d", c.Experts),
			"use a divisor of "+strconv.Itoa(c.Experts))
	}
	if err := inRange("top_groups", c.TopGroups, 1, c.ExpertGroups); err != nil {
		return err
	}
	if reach := c.TopGroups * c.Experts / c.ExpertGroups; c.TopK > reach {
		return bad("top_groups", strconv.Itoa(c.TopGroups),
			fmt.Sprintf("leaves a token %d experts, but top_k is %d", reach, c.TopK), "use more groups or a smaller top_k")
	}
	return nil
}

func (c Config) validateReals() error {
	return firstError(
		atLeast("rope_theta", c.RopeTheta, 1),
		above("norm_eps", c.NormEps, 0),
		atLeast("balance_coef", c.BalanceCoef, 0),
		atLeast("z_coef", c.ZCoef, 0),
		above("init_std", c.InitStd, 0),
	)
}

// validateSize adds in floating point, where nothing overflows.
func (c Config) validateSize() error {
	perLayer := float64(c.Dim) * (2*float64(c.Heads)*float64(c.HeadDim) + float64(c.DenseFFN) +
		3*float64(c.ExpertFFN)*(float64(c.Experts)+float64(c.SharedExperts)))
	total := float64(c.Layers)*perLayer + 2*float64(c.Vocab)*float64(c.Dim)
	if total > maxElements {
		return bad("model", c.Name, fmt.Sprintf("has about %.0e parameters", total),
			fmt.Sprintf("stay below %.0e; check dim, expert_ffn and experts", float64(maxElements)))
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func bad(field, value, problem, next string) error {
	return &fault.Input{Where: field, Value: value, Problem: problem, Next: next}
}

func inRange(field string, v, low, high int) error {
	if low <= v && v <= high {
		return nil
	}
	next := fmt.Sprintf("use %d to %d", low, high)
	if high == maxExtent && v < low {
		next = fmt.Sprintf("use at least %d", low)
	}
	if high == low {
		next = fmt.Sprintf("use %d", low)
	}
	problem := "is too small"
	if v > high {
		problem = "is too large"
	}
	return bad(field, strconv.Itoa(v), problem, next)
}

// atLeast is for a number that training takes in float32, which holds no larger ones.
func atLeast(field string, v, low float64) error {
	if v >= low && v <= math.MaxFloat32 {
		return nil
	}
	if v > math.MaxFloat32 && !math.IsInf(v, 0) {
		return tooLarge(field, v)
	}
	return bad(field, formatReal(v), "is out of range", fmt.Sprintf("use a number of at least %v", low))
}

func tooLarge(field string, v float64) error {
	return bad(field, formatReal(v), "is too large", fmt.Sprintf("use a number up to %.2g", math.MaxFloat32))
}

// above is [atLeast] for a number that must be larger.
func above(field string, v, low float64) error {
	if v > low && v <= math.MaxFloat32 {
		return nil
	}
	if v > math.MaxFloat32 && !math.IsInf(v, 0) {
		return tooLarge(field, v)
	}
	return bad(field, formatReal(v), "is out of range", fmt.Sprintf("use a number above %v", low))
}

func formatReal(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
