/// A handler that wants to know what was sent: called on the event loop, with bytes that the kernel took.
protocol SendObserver: LinkHandler {
    func sent(_ count: Int)
}
