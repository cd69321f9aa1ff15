import Model
import Pair
import Protocol
import Storage
import Wire

/// Everything that can come up in the queue.
enum Happening {
    case guestStep(guest: Int)
    case guestEnds(guest: Int)
    case fault(Int)
    case faultsStop
    case operatorLooks
    case operatorActs(Command)
    case agentStarts(HostIndex)
    case powerReturns(HostIndex)
    /// The fence command of the other host takes effect.
    case isFenced(HostIndex)
    case wakes(HostIndex)
    case imageIsLost(HostIndex)
    case arbiterReturns
    case diskIsMended(HostIndex)
    case uplinkReturns(HostIndex)
    /// What a disk's server does by itself.
    case copyBack(guest: Int)
    case request(Question)
    /// What concerns one life of one agent; it waits while the agent stands still, and is gone when the agent is.
    case agent(HostIndex, life: Int, AgentWork)
}

/// What an agent's shell has to do at some time.
enum AgentWork {
    case arrive(connection: Int, Message)
    case checkSilence(connection: Int)
    case ask(Question)
    case answer(Question, RegisterAnswer)
    case answerRead(question: Int, Register?)
    case questionTimesOut(Question)
    case persisted(LocalRecord)
    case lookForStandby
    case keepLevel
    case offerFails(SessionID)
    case copyStep(SessionID, Int)
    case cutEpoch(SessionID)
    case cutLastEpoch(SessionID)
    case primaryBeats(SessionID)
    case guestIsGone(Int)
    case prepared(SessionID)
    case failsToPrepare(SessionID)
    case applyHalf(SessionID, Epoch)
    case applyRest(SessionID, Epoch)
    case load(SessionID, Epoch)
    case resume(SessionID, Epoch)
    case boot(SessionID, Epoch)
    case replicaIsGone(SessionID)
    case standbyBeats
    case runFence(Nonce)
    case fenceEnds(Nonce, isConfirmed: Bool)
    case leaseTimer
    case leaseAnswer(question: UInt64, Register?)
    case gate(SimKernelGate.Request, guest: Int, until: UInt64, _ milliseconds: UInt64, attempts: Int)
    case partAttached(SessionID, DialMachine.Part)
    case partFails(SessionID, DialMachine.Part)
    case partDetached(SessionID, DialMachine.Part)
    case memoryStep(SessionID, Int)
    case beginHolding(SessionID)
    case endHolding(SessionID)
    case shipWrite(SessionID, Int)
    case startFromDisk(SessionID)
    case triedToStart(guest: Int, fails: Bool)
    case attachDetour(SessionID)
    case detachDetour(SessionID)
    case carryLook(SessionID)
    case carryNews(SessionID)
    case serve(SessionID)
    case serveNoMore(SessionID)
    case servedThere(SessionID, Int)
    case diskReport(guest: Int, ServedReport)
    case noted(UInt64)
    case rejoinWhenDue(SessionID)
    case noteWritten(SessionID, DiskNote, Lineage)
}

/// A question to the arbiter.
struct Question {
    enum Kind {
        case read
        case compareAndSet(expecting: Register?, new: Register, nonce: Nonce)
        /// A reading for the lease, by its number.
        case lease(UInt64)
    }
    var id: Int
    var host: HostIndex
    var life: Int
    var store = 0
    var kind: Kind
}

/// What a link carries.
enum Message {
    case offer(SessionOffer)
    case copy(SessionID, step: Int, [Change])
    case data(SessionID, Epoch, part: Int, [Change], outputs: [Int], isDamaged: Bool)
    case checkpointEnd(SessionID, Epoch, tip: Int, CheckpointDigest)
    case memory(SessionID, [Change])
    case write(SessionID, Int)
    case written(SessionID, Int)
    case lendPort(SessionID)
    case returnPort(SessionID)
    case carryOrder(SessionID, Int, isInside: Bool)
    case carryNews(SessionID, SimCarry.News)
    /// A frame of the guest's, which leaves at the other host.
    case frame(SessionID, Int)
    case promiseAsked(UInt64, Term)
    case promise(UInt64, Term)
    case fromPrimary(SessionID, PrimaryMessage)
    case fromStandby(SessionID, StandbyMessage)
    case closed
}

/// One page group and the version that was written into it.
struct Change {
    var group: Int
    var version: Int
}
