/// Everything that is random in a run comes from here, so that a seed replays it (xoshiro256**).
struct Random {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    init(seed: UInt64) {
        var mixer = seed
        func next() -> UInt64 {
            mixer &+= 0x9e37_79b9_7f4a_7c15
            var mixed = (mixer ^ (mixer >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
        state = (next(), next(), next(), next())
    }

    mutating func next() -> UInt64 {
        let rotated = state.1 &* 5
        let result = ((rotated << 7) | (rotated >> 57)) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = (state.3 << 45) | (state.3 >> 19)
        return result
    }

    /// From 0 up to and without `bound`.
    mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 33) % bound }
    mutating func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
    mutating func chance(perMille: Int) -> Bool { perMille > 0 && below(1000) < perMille }
    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

    /// Mostly short, sometimes very long: what outages look like.
    mutating func outage() -> Int {
        switch below(10) {
        case 0...2: within(5...100)
        case 3...6: within(100...900)
        case 7...8: within(900...2500)
        default: within(2500...20_000)
        }
    }
}
