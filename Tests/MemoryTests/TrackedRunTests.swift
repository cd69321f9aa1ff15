import LinuxSystem
import Memory
import Testing

@Suite struct TrackedRunTests {
    @Test func aRunIsTakenInPartsOrWhole() {
        let runs = [TrackedRun(block: 1, first: 10, count: 5), TrackedRun(block: 2, first: 0, count: 1)]
        var rest = runs[...]
        let taken = [rest.takeFirst(2), rest.takeFirst(3)]
        #expect(
            taken == [TrackedRun(block: 1, first: 10, count: 2), TrackedRun(block: 1, first: 12, count: 3)])
        #expect(Array(rest) == [runs[1]])
    }
}
