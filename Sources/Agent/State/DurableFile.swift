import Foundation
import LinuxSystem
import Synchronization

/// A JSON value that a file keeps. It is changed as a whole, and a change is on stable storage when it returns; one that
/// fails leaves the value as it was.
package final class DurableFile<Value: Codable & Sendable>: Sendable {
    /// How the file holds the value.
    package enum Form: Sendable {
        /// The plain value in a file that each change puts in the place of the one before, by two flushes.
        case replaced
        /// Two places in one file, of which a change writes the older by one flush (`StateFile`). A plain value is read too.
        case inTwoPlaces
    }

    private struct State {
        var value: Value
        /// Nil where the file is replaced.
        let places: StateFile<Value>?
    }

    package let name: String
    /// The last write was cut short, when the host lost power: the value before it counts.
    package let isTorn: Bool
    private let state: Mutex<State>

    /// Reads the file `name` in `directory`; where there is none it holds `initial`, and is made by the first change.
    ///
    /// - Parameter advice: what to say of a file that cannot be read, given why.
    package init(
        _ name: String, in directory: borrowing DurableDirectory, _ form: Form, initial: Value,
        advice: (any Error) -> String
    ) throws {
        self.name = name
        let path = "\(directory.path)/\(name)"
        func places(_ number: UInt64 = 0) -> StateFile<Value>? {
            form == .inTwoPlaces ? StateFile(name, number: number) : nil
        }
        var info = stat()
        // Whatever else is wrong with it: it is there, and must not be taken for new.
        guard lstat(path, &info) == 0 || errno != ENOENT else {
            isTorn = false
            state = Mutex(State(value: initial, places: places()))
            return
        }
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            if form == .inTwoPlaces, let (value, number, isTorn) = StateFile<Value>.read(Array(data)) {
                self.isTorn = isTorn
                state = Mutex(State(value: value, places: places(number)))
            } else {
                isTorn = false
                state = Mutex(State(value: try JSONDecoder().decode(Value.self, from: data), places: places()))
            }
        } catch {
            throw ConfigurationError(path: path, [.init(line: nil, message: advice(error))])
        }
    }

    /// One that is not there yet.
    package init(_ name: String, _ form: Form, _ value: Value) {
        self.name = name
        isTorn = false
        state = Mutex(State(value: value, places: form == .inTwoPlaces ? StateFile(name) : nil))
    }

    package var value: Value { state.withLock { $0.value } }

    /// `directory` is the one that it was read from.
    package func change(
        in directory: borrowing DurableDirectory, _ body: (inout Value) -> Void
    ) throws(SystemError) {
        try state.withLock { (state) throws(SystemError) in
            var value = state.value
            body(&value)
            if let places = state.places {
                try places.write(value, in: directory)
            } else {
                // Plain value types with string keys: encoding them cannot fail.
                guard let data = try? JSONEncoder().encode(value) else {
                    preconditionFailure("a state is not encodable")
                }
                _ = try directory.replace(name, with: Array(data))
            }
            state.value = value
        }
    }
}
