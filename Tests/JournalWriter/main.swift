import Foundation
import Journal
import Model

/// `romulus-journal-writer PATH`: writes decisions to the journal at PATH, with information between them, and prints
/// the id and the text of each decision when the journal said that it is written. Never ends by itself: the test kills it.
let journal = EventJournal(path: CommandLine.arguments[1]) { sentence in
    FileHandle.standardError.write(Data("\(sentence)\n".utf8))
}
let vm = VMName("web")
var count = 0
while true {
    count += 1
    journal.append(.state, vm: vm, "on the way to \(count)")
    let text = "decision \(count) of \(getpid())"
    let id = journal.append(.asked, vm: vm, term: Term(UInt64(count)), text)
    journal.append(.qemu, vm: vm, "behind \(count)")
    guard journal.flush() else { exit(1) }
    FileHandle.standardOutput.write(Data("\(id) \(text)\n".utf8))
}
