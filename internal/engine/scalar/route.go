package scalar

import (
	"slices"

	"github.com/mistura-project/mistura/internal/model"
)

// Routed is what the router decided for one token.
type Routed[F Float] struct {
	Logits []F   // [experts]
	Soft   []F   // softmax of the logits
	LogSum F     // log Σ exp logits
	Scores []F   // Soft, or sigmoids
	Choice []int // chosen experts
	Weight []F   // their weights
	Sum    F     // what the weights were divided by
	Share  []F   // scores scaled to sum 1, for the balance loss
	Total  F     // what the scores were divided by for it
}

// floor keeps a division by chosen or all sigmoid scores finite.
const floor = 1e-20

// Route decides by the logits and, when it is not nil, by the bias of the experts. A
// choice that is not nil is imposed.
func Route[F Float](c model.Config, logits, bias []F, choice []int) Routed[F] {
	r := Routed[F]{Logits: logits, Choice: choice, Sum: 1, Total: 1}
	r.Soft, r.LogSum = Softmax(logits)
	r.Scores = r.Soft
	if c.Router == model.Sigmoid {
		r.Scores, r.Total = make([]F, len(logits)), floor
		for e, x := range logits {
			r.Scores[e] = Sigmoid(x)
			r.Total += r.Scores[e]
		}
	}
	if choice == nil {
		r.Choice = Choose(c, logits, r.Scores, bias)
	}
	if c.NormTopK {
		r.Sum = 0
		if c.Router == model.Sigmoid {
			r.Sum = floor
		}
		for _, e := range r.Choice {
			r.Sum += r.Scores[e]
		}
	}
	for _, e := range r.Choice {
		r.Weight = append(r.Weight, r.Scores[e]/r.Sum*routedScale[F](c))
	}
	for _, s := range r.Scores {
		r.Share = append(r.Share, s/r.Total)
	}
	return r
}

// routedScale is what weights are multiplied by.
func routedScale[F Float](c model.Config) F {
	if c.RoutedScale == 0 {
		return 1
	}
	return F(c.RoutedScale)
}

// Choose gives the experts that a token visits, the best first: by score plus bias
// where there is a bias, else by logit, and in the best TopGroups groups only.
func Choose[F Float](c model.Config, logits, scores, bias []F) []int {
	by := append([]F(nil), logits...)
	for e, b := range bias {
		by[e] = scores[e] + b
	}
	if c.ExpertGroups < 2 {
		return TopK(by, c.TopK)
	}
	each := c.Experts / c.ExpertGroups
	var groups []F
	for g := range c.ExpertGroups {
		members := append([]F(nil), by[g*each:(g+1)*each]...)
		if c.Router == model.Sigmoid && bias == nil {
			members = append([]F(nil), scores[g*each:(g+1)*each]...)
		}
		slices.Sort(members)
		best := members[each-1]
		if c.Router == model.Sigmoid && each > 1 {
			best += members[each-2]
		}
		groups = append(groups, best)
	}
	var inside []int // experts of the groups that stay, in order
	var values []F
	kept := TopK(groups, c.TopGroups)
	for e := range c.Experts {
		if slices.Contains(kept, e/each) {
			inside, values = append(inside, e), append(values, by[e])
		}
	}
	var chosen []int
	for _, i := range TopK(values, c.TopK) {
		chosen = append(chosen, inside[i])
	}
	return chosen
}

// TopK gives the numbers of the k largest values, the lowest number first among
// equals.
func TopK[F Float](x []F, k int) []int {
	var chosen []int
	taken := make([]bool, len(x))
	for range k {
		best := -1
		for i := range x {
			if !taken[i] && (best < 0 || x[i] > x[best]) {
				best = i
			}
		}
		taken[best] = true
		chosen = append(chosen, best)
	}
	return chosen
}

// RouteBackward gives the gradient of the logits from those of the weights, of
// the shares (the balance loss), and of LogSum (the z-loss).
func RouteBackward[F Float](c model.Config, r Routed[F], dWeight, dShare []F, dLogSum F) []F {
	dScores := make([]F, len(r.Scores))
	if c.Router == model.Sigmoid {
		shift := Dot(dShare, r.Share)
		for e, g := range dShare {
			dScores[e] = (g - shift) / r.Total
		}
	} else {
		copy(dScores, dShare)
	}
	shift := F(0)
	if c.NormTopK {
		for i, e := range r.Choice {
			shift += dWeight[i] * r.Scores[e] / r.Sum
		}
	}
	for i, e := range r.Choice {
		dScores[e] += routedScale[F](c) * (dWeight[i] - shift) / r.Sum
	}
	var d []F
	if c.Router == model.Softmax {
		d = SoftmaxBackward(r.Scores, dScores)
	} else {
		for e, s := range r.Scores {
			d = append(d, dScores[e]*s*(1-s))
		}
	}
	Add(d, r.Soft, dLogSum)
	return d
}

// RouterLosses gives, for the tokens of one sequence, the balance loss
// E·Σ f·P, which is 1 at perfect balance, and the mean of LogSum², together with
// the gradients of each token's shares (the same for all) and LogSum.
func RouterLosses[F Float](c model.Config, tokens []Routed[F]) (balance, z F, dShare, dLogSum []F) {
	n := F(len(tokens))
	fraction, share := make([]F, c.Experts), make([]F, c.Experts)
	for _, r := range tokens {
		for _, e := range r.Choice {
			fraction[e] += 1 / (n * F(c.TopK))
		}
		Add(share, r.Share, 1/n)
		z += r.LogSum * r.LogSum / n
		dLogSum = append(dLogSum, 2*r.LogSum/n)
	}
	for e := range fraction {
		dShare = append(dShare, F(c.Experts)*fraction[e]/n)
	}
	return F(c.Experts) * Dot(fraction, share), z, dShare, dLogSum
}
