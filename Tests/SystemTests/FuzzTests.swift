import Conformance
import Glibc
import Synchronization
import Testing
import Transport

extension System {
    /// `martlet conformance --fuzz` against Martlet, bounded and with a seed that is always the same; and the fuzzer
    /// itself, to which a broker is shown that misbehaves.
    struct `The fuzzer` {
        static let seed = 1

        @Test func `finds nothing in Martlet, which lives on and stops as asked [MQTT-4.8.0-1]`() throws {
            let broker = try Martlet(["shards 2"])
            let bystander = try broker.client("bystander")
            let rounds = Martlet.isFast ? 5000 : 500
            let fuzzer = try Program(
                Martlet.binary,
                [
                    "conformance", "--fuzz", "--port", "\(broker.port)", "--seed", "\(Self.seed)",
                    "--rounds", "\(rounds)", "--patience", isSanitized ? "5" : "1",
                ])
            let end = try fuzzer.waitForEnd(within: 120)
            #expect(end == .exited(0), "\(fuzzer.output)")
            #expect(fuzzer.output.contains("\(rounds) rounds") && fuzzer.output.contains("nothing found"))
            #expect(broker.program.endIfOver() == nil, "\(broker.program.output.suffix(2_000))")
            try bystander.ping()
            try broker.stop()
        }

        @Test func `leaves no session and no retained message behind`() throws {
            let broker = try Martlet(["shards 2"])
            let (_, finding) = try fuzz(broker, rounds: 300) { $0 }
            #expect(finding == nil, "\(finding.map { "\($0)" } ?? "")")
            let client = try broker.client("fuzz-a", cleanSession: false)
            try client.subscribe([("#", 0)])
            try client.ping()
            #expect(!client.hasInput)
            try broker.stop()
        }

        @Test(arguments: FaultyStream.Fault.allCases) func `sees it when a broker`(_ fault: FaultyStream.Fault) throws {
            let broker = try Martlet(["shards 2"])
            let (progress, finding) = try fuzz(broker, rounds: 1500) { FaultyStream($0, fault) }
            let found = try #require(finding, "nothing in \(progress.rounds) rounds")
            #expect(found.isRepeatable, "\(found)")
            #expect(found.sequence.steps.count <= fault.stepsNeeded, "\(found)")
            try broker.stop()
        }

        @Test func `sees it when the broker dies`() throws {
            let broker = try Martlet()
            let (pid, connections) = (broker.program.pid, Counter())
            let (_, finding) = try fuzz(broker, rounds: 1500) { stream in
                if connections.next() == 40 { kill(pid, SIGKILL) }
                return stream
            }
            #expect(finding?.isGone == true, "\(finding.map { "\($0)" } ?? "nothing")")
        }

        @Test func `prints findings as entries of the corpus`() throws {
            let corpus = try FuzzSequence.embeddedCorpus(withCases: false)
            for sequence in corpus {
                #expect(try FuzzSequence.corpus(sequence.text("again"), file: "text") == [sequence])
            }
        }

        @Test func `makes the same sequences of the same seed`() throws {
            let corpus = try FuzzSequence.embeddedCorpus(withCases: false)
            let (first, second) = (FuzzMutator(corpus: corpus, seed: 5), FuzzMutator(corpus: corpus, seed: 5))
            #expect((0..<200).allSatisfy { first.sequence($0) == second.sequence($0) })
            #expect(first.sequence(7) != FuzzMutator(corpus: corpus, seed: 6).sequence(7))
        }

        private func fuzz(
            _ broker: Martlet, rounds: Int, through lens: @escaping @Sendable (any ByteStream) -> any ByteStream
        ) throws -> (progress: Fuzzer.Progress, finding: FuzzFinding?) {
            var options = Fuzzer.Options()
            options.seed = UInt64(Self.seed)
            options.rounds = rounds
            options.patience = .milliseconds(Int(500 * patience))
            options.minimising = .seconds(15 * patience)
            let address = try #require(try SocketAddress.resolve("127.0.0.1", port: broker.port).first)
            let corpus = try FuzzSequence.embeddedCorpus(withCases: false)
            let fuzzer = Fuzzer(corpus: corpus, options: options) { lens(try TCPStream(address)) }
            return fuzzer.run()
        }
    }
}

private final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}

/// A connection through which Martlet looks like a broker with one fault.
final class FaultyStream: ByteStream {
    enum Fault: String, CaseIterable, CustomTestStringConvertible {
        case saysNothingAfterUnsubscribe = "says nothing more after UNSUBSCRIBE"
        case closesAfterRetained = "closes the connection of whoever publishes a retained message"
        case confusesIdentifiers = "acknowledges identifiers above 255 with the lower byte alone"
        case grantsTooMuch = "grants QoS 2 whatever was asked for"
        case forgetsFlags = "sends PUBREL without its flag"
        case ignoresViolations = "stays connected after a packet of type 15"
        case pingsTwice = "answers each ping twice"
        case saysPresent = "says Session Present to everybody"
        case answersBeforeConnect = "greets before CONNECT"

        var testDescription: String { rawValue }

        /// A good fuzzer says it with few.
        var stepsNeeded: Int {
            switch self {
            case .answersBeforeConnect, .saysPresent: 1
            case .forgetsFlags, .ignoresViolations, .saysNothingAfterUnsubscribe, .closesAfterRetained: 3
            case .confusesIdentifiers, .grantsTooMuch, .pingsTwice: 2
            }
        }
    }

    private let stream: any ByteStream
    private let fault: Fault
    private var sent: [UInt8] = []
    private var unread: [UInt8] = []
    private var came: [UInt8] = []
    private var isSilent = false
    private var isClosed = false

    init(_ stream: any ByteStream, _ fault: Fault) {
        self.stream = stream
        self.fault = fault
        if fault == .answersBeforeConnect { came = [0x20, 2, 0, 0] }
    }

    func send(_ bytes: [UInt8]) {
        sent += bytes
        while case .frame(let frame, let byteCount) = Frame.cut(sent) {
            sent.removeFirst(byteCount)
            switch fault {
            case .saysNothingAfterUnsubscribe where frame.kind == .unsubscribe: isSilent = true
            case .closesAfterRetained where frame.kind == .publish && frame.firstByte & 1 != 0: isClosed = true
            case .ignoresViolations where frame.firstByte & 0xf0 == 0xf0: isSilent = true
            default: break
            }
        }
        stream.send(bytes)
    }

    func receive(until deadline: ContinuousClock.Instant) -> Conformance.Received {
        if isClosed {
            stream.reset()
            return .closed
        }
        while true {
            if !came.isEmpty {
                defer { came = [] }
                return .bytes(came)
            }
            let received = stream.receive(until: deadline)
            if isSilent {
                while case .bytes = stream.receive(until: deadline) {}
                let milliseconds = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
                poll(nil, 0, Int32(max(0, milliseconds.rounded(.up))))
                return .timedOut
            }
            guard case .bytes(let bytes) = received else { return received }
            unread += bytes
            while case .frame(let frame, let byteCount) = Frame.cut(unread) {
                unread.removeFirst(byteCount)
                came += changed(frame)
            }
        }
    }

    private func changed(_ frame: Frame) -> [UInt8] {
        var frame = frame
        switch (fault, frame.kind) {
        case (.confusesIdentifiers, .puback): frame.body[0] = 0
        case (.grantsTooMuch, .suback): frame.body[frame.body.count - 1] = 2
        case (.forgetsFlags, .pubrel): frame.firstByte = 0x60
        case (.pingsTwice, .pingresp): return frame.bytes() + frame.bytes()
        case (.saysPresent, .connack): frame.body[0] = 1
        default: break
        }
        return frame.bytes()
    }

    func finish() { stream.finish() }
    func reset() { stream.reset() }
}
