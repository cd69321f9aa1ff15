import Protocol
import Testing

@Suite struct RetryPaceTests {
    private func waits(_ cause: RetryPace.Cause, _ count: Int) -> [UInt64] {
        var pace = RetryPace()
        return (0..<count).map { _ in
            pace.failed(cause, "the same")
            return pace.wait / 1_000_000_000
        }
    }

    @Test func waitsDoubleUpToABoundOfTheCause() {
        #expect(waits(.lost, 5) == [2, 4, 8, 8, 8])
        #expect(waits(.refused, 7) == [2, 4, 8, 16, 32, 32, 32])
    }

    @Test func anotherReasonIsNewsAndBeginsAnew() {
        var pace = RetryPace()
        pace.failed(.refused, "no room, 12 MiB are free")
        #expect(pace.isNews)
        pace.failed(.refused, "no room, 9 MiB are free")
        #expect(!pace.isNews && pace.wait == 2 * RetryPace.shortest)
        pace.failed(.refused, "in maintenance")
        #expect(pace.isNews && pace.wait == RetryPace.shortest)
        pace.failed(.lost, "in maintenance")
        #expect(pace.isNews)
        pace.failed(.lost, "in maintenance")
        pace.reset()
        #expect(pace == RetryPace())
        pace.failed(.lost, "in maintenance")
        #expect(pace.isNews, "after a success the same failure is news")
    }
}
