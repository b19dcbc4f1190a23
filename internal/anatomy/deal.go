package anatomy

// Deal shares n equal things among parties by their speeds, whole things only, so that
// the last party is done as early as it can be: sequences of a batch among unlike
// devices, layers among stages. A cap above 0 is the most that a party can take; nil is
// none. What does not divide goes to later parties. ok is false when the caps leave
// something over.
func Deal(n int, speeds []float64, caps []int) (shares []int, ok bool) {
	shares = make([]int, len(speeds))
	for range n {
		next, soonest := -1, 0.0
		for i, speed := range speeds {
			if caps != nil && caps[i] > 0 && shares[i] == caps[i] || speed <= 0 {
				continue
			}
			if done := float64(shares[i]+1) / speed; next < 0 || done <= soonest {
				next, soonest = i, done
			}
		}
		if next < 0 {
			return shares, false
		}
		shares[next]++
	}
	return shares, true
}
