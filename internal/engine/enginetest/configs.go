package enginetest

import "github.com/mistura-project/mistura/internal/model"

// base is small enough for finite differences of every parameter, and has no two
// extents equal that could be mixed up unseen.
func base() model.Config {
	return model.Config{
		Name: "base", Vocab: 7, Dim: 6, Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 4,
		Experts: 3, TopK: 2, ExpertFFN: 5, SharedExperts: 1,
		RopeTheta: 100, NormEps: 1e-4, Router: model.Softmax, NormTopK: true,
		BalanceCoef: 0.05, ZCoef: 0.02, InitStd: 0.02,
	}
}

// Configs are models that between them turn on every part of the configuration.
// Names say what is special.
func Configs() []model.Config {
	var all []model.Config
	add := func(name string, change func(c *model.Config)) {
		c := base()
		c.Name = name
		change(&c)
		all = append(all, c)
	}
	add("plain", func(*model.Config) {})
	add("grouped queries, no shared expert", func(c *model.Config) { c.Heads, c.KVHeads, c.SharedExperts = 6, 2, 0 })
	add("two shared experts, weights as scored", func(c *model.Config) { c.SharedExperts, c.NormTopK = 2, false })
	add("norm head, untied", func(c *model.Config) { c.NormHead = true })
	add("norm head, tied, one key head", func(c *model.Config) { c.NormHead, c.TiedEmbeddings, c.KVHeads = true, true, 1 })
	add("tied, top 1", func(c *model.Config) { c.TiedEmbeddings, c.TopK = true, 1 })
	add("dense first layer", func(c *model.Config) { c.DenseLayers, c.DenseFFN = 1, 9 })
	add("dense only", func(c *model.Config) { c.DenseLayers, c.DenseFFN, c.Experts, c.TopK = 2, 9, 0, 0 })
	add("sigmoid", func(c *model.Config) { c.Router = model.Sigmoid })
	add("sigmoid, weights as scored, norm of q and k", func(c *model.Config) {
		c.Router, c.NormTopK, c.QKNorm = model.Sigmoid, false, true
	})
	add("everything", func(c *model.Config) {
		c.Heads, c.KVHeads, c.QKNorm, c.NormHead = 4, 2, true, true
		c.Layers, c.DenseLayers, c.DenseFFN, c.Experts, c.SharedExperts = 3, 1, 8, 4, 2
	})
	add("partial rotary positions", func(c *model.Config) { c.HeadDim, c.RotaryDims = 6, 4 })
	add("bias", func(c *model.Config) { c.RouterBias, c.BiasRate = true, 0.01 })
	add("sigmoid, bias, scaled weights", func(c *model.Config) {
		c.Router, c.RouterBias, c.BiasRate, c.RoutedScale = model.Sigmoid, true, 0.01, 2.5
	})
	add("groups, scaled weights as scored", func(c *model.Config) {
		c.Experts, c.ExpertGroups, c.TopGroups, c.NormTopK, c.RoutedScale = 6, 3, 2, false, 1.5
	})
	add("sigmoid, groups", func(c *model.Config) {
		c.Router, c.Experts, c.TopK, c.ExpertGroups, c.TopGroups = model.Sigmoid, 8, 3, 4, 2
	})
	add("routing warm-up", func(c *model.Config) { c.RoutingWarmupTokens, c.RoutingWarmupWindow = 1000, 4 })
	add("routing of every kind", func(c *model.Config) {
		c.Layers, c.DenseLayers, c.DenseFFN, c.QKNorm, c.RotaryDims = 3, 1, 8, true, 2
		c.Router, c.RouterBias, c.BiasRate, c.RoutedScale = model.Sigmoid, true, 0.01, 2
		c.Experts, c.ExpertGroups, c.TopGroups, c.TopK = 6, 3, 2, 3
		c.RoutingWarmupTokens, c.RoutingWarmupWindow = 1000, 4
	})
	add("no router losses", func(c *model.Config) { c.BalanceCoef, c.ZCoef = 0, 0 })
	return all
}
