import Foundation
import TestBed

// What Romulus does, on real input: a Linux guest under load is protected, its host loses power, and the standby goes
// on. Every line says what was seen; the last one is JSON, and the exit code is 0 only if nothing was lost.

struct Result: Encodable {
    var timeToRunningMs: Double
    var clientSilenceMs: Double
    var bytesLost: Int
    var connectionsLost: Int
    var diskEqual: Bool
    var epochs: UInt64
    var pauseMsP50: Double
    var pauseMsP95: Double
}

do {
    let result = try await Demo.run()
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    encoder.keyEncodingStrategy = .convertToSnakeCase
    print(String(decoding: try encoder.encode(result), as: UTF8.self))
    exit(result.bytesLost == 0 && result.connectionsLost == 0 && result.diskEqual ? 0 : 1)
} catch {
    print("The demo failed: \(error)")
    exit(1)
}
