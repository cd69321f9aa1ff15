import CLinux
import Glibc

/// A thread of its own for work that blocks or must not be late.
public struct NamedThread: ~Copyable, Sendable {
    private let handle: pthread_t

    /// The calling thread's number, as the kernel's files have it.
    public static var currentID: pid_t { rml_thread_id() }

    /// What the calling thread has used of a processor, in nanoseconds.
    public static var processorTime: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// From now on the calling thread gives way to others where processors are short.
    public static func giveWay() {
        // A thread may always become nicer.
        _ = rml_set_nice(10)
    }

    /// A thread that nobody waits for goes on by itself.
    deinit { pthread_detach(handle) }

    /// Starts `body` on a new thread. The kernel keeps 15 bytes of the name.
    public static func start(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) -> NamedThread
    {
        let work = Unmanaged.passRetained(Work(name: name, body: body))
        var handle = pthread_t()
        let failure = pthread_create(&handle, nil, { Work.run($0) }, work.toOpaque())
        if failure != 0 {
            work.release()
            throw SystemError(operation: "start", errno: failure, subject: "the thread \(name)")
        }
        return NamedThread(handle: handle)
    }

    /// Starts `body` on a new thread and hands it a value that has one owner.
    public static func start<Value: ~Copyable>(
        _ name: String, handing value: consuming sending Value, _ body: @escaping @Sendable (consuming Value) -> Void
    ) throws(SystemError) -> NamedThread {
        let parcel = Parcel(value)
        return try start(name) { body(parcel.open()) }
    }

    /// Waits for the end of the thread.
    public consuming func join() {
        let handle = handle
        discard self
        pthread_join(handle, nil)
    }

    /// Runs `body` on a thread of its own and waits for its result.
    public static func run<Result: ~Copyable>(
        _ name: String, _ body: @escaping @Sendable () -> sending Result
    ) throws(SystemError) -> Result {
        let answer = Parcel<Result>()
        let thread = try start(name) { answer.put(body()) }
        thread.join()
        return answer.open()
    }
}

/// What a new thread is given.
private final class Work: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }

    static func run(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        let work = Unmanaged<Work>.fromOpaque(pointer!).takeRetainedValue()
        work.name.withCString { rml_name_thread($0) }
        work.body()
        return nil
    }
}

/// Carries one value with one owner across a closure, which cannot capture such a value to consume it.
// SAFETY: written before the thread starts and opened by it, or written by it and opened after it was joined; starting and
// joining a thread order the two.
private final class Parcel<Value: ~Copyable>: @unchecked Sendable {
    private var value: Value?

    init() { value = nil }
    init(_ value: consuming Value) { self.value = consume value }

    func put(_ value: consuming Value) { self.value = consume value }

    func open() -> Value {
        guard let value = value.take() else { fatalError("a parcel is opened once, after it was filled") }
        return value
    }
}
