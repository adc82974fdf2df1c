package gateway

// candidate is an endpoint that a new connection may go to.
type candidate struct {
	priority, weight uint16
	// load is how many connections it has.
	load int
	// down says that the last attempt to connect failed.
	down bool
	// doubt says that a connection ended as soon as it had begun, a short while ago.
	doubt bool
}

// pick chooses where a new connection goes, as an index into all, -1 if there is none to choose. In this order:
//   - an endpoint that is up; one that is down only if all are;
//   - the lowest priority: "a client MUST attempt to contact the target host with the lowest-numbered priority it can reach"
//     (RFC 2782);
//   - where weights differ, at random by weight as RFC 2782 says;
//   - where they do not, the fewest connections, and among equals the next one in turn. One in doubt is left out unless it is its turn,
//     and has it then: an endpoint that ends all its connections has the fewest, and would get nearly all new ones.
//
// turn counts the connections; random returns a number in [0, n).
func pick(all []candidate, turn int, random func(n int) int) int {
	var class []int
	for i, c := range all {
		if len(class) > 0 {
			switch best := all[class[0]]; {
			case c.down != best.down:
				if c.down {
					continue
				}
				class = class[:0]
			case c.priority > best.priority:
				continue
			case c.priority < best.priority:
				class = class[:0]
			}
		}
		class = append(class, i)
	}
	if len(class) == 0 {
		return -1
	}
	weighted := false
	for _, i := range class {
		weighted = weighted || all[i].weight != all[class[0]].weight
	}
	start := turn % len(class)
	class = append(class[start:len(class):len(class)], class[:start]...)
	if weighted {
		return byWeight(all, class, random)
	}
	least := class[0]
	if all[least].doubt {
		return least
	}
	for _, i := range class {
		if !all[i].doubt && all[i].load < all[least].load {
			least = i
		}
	}
	return least
}

// byWeight selects as RFC 2782 says: those of weight 0 come first, a number from 0 to the sum of the weights inclusive is drawn,
// and the first one is chosen whose running sum is not less. So weight 0 has "a very small chance of being selected".
func byWeight(all []candidate, class []int, random func(n int) int) int {
	sum, zero := 0, -1
	for _, i := range class {
		sum += int(all[i].weight)
		if all[i].weight == 0 && zero < 0 {
			zero = i
		}
	}
	drawn := random(sum + 1)
	if drawn == 0 && zero >= 0 {
		return zero
	}
	running := 0
	for _, i := range class {
		if running += int(all[i].weight); all[i].weight > 0 && running >= drawn {
			return i
		}
	}
	return class[0] // unreachable: the last running sum is the sum
}
