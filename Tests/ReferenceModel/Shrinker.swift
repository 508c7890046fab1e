/// Makes a failing program small: takes out as many steps as it can, and what makes the others hard to read.
package enum Shrinker {
    private struct Line {
        var step: ClientProgram.Step
        /// Happens at the same time as the line before.
        var isJoined: Bool
    }

    /// The smallest program found for which `fails` still holds.
    package static func shrink(
        _ program: ClientProgram, while fails: (ClientProgram) -> Bool
    ) -> ClientProgram {
        var lines = program.batches.flatMap { batch in
            batch.enumerated().map { Line(step: $0.element, isJoined: $0.offset > 0) }
        }
        var frame = program
        func with(_ lines: [Line], _ frame: ClientProgram) -> ClientProgram {
            var smaller = frame
            smaller.batches = []
            for line in lines {
                if line.isJoined, !smaller.batches.isEmpty {
                    smaller.batches[smaller.batches.count - 1].append(line.step)
                } else {
                    smaller.batches.append([line.step])
                }
            }
            return smaller
        }
        func removing(_ range: Range<Int>) -> [Line] {
            var rest = lines
            // What happened at the same time as the first to go now begins its batch.
            if range.upperBound < rest.count, !lines[range.lowerBound].isJoined {
                rest[range.upperBound].isJoined = false
            }
            rest.removeSubrange(range)
            return rest
        }
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            var size = max(lines.count / 2, 1)
            while size >= 1 {
                var start = 0
                while start < lines.count {
                    let rest = removing(start..<min(start + size, lines.count))
                    if fails(with(rest, frame)) {
                        lines = rest
                        isSmaller = true
                    } else {
                        start += size
                    }
                }
                size /= 2
            }
            for index in lines.indices where lines[index].isJoined {
                lines[index].isJoined = false
                if fails(with(lines, frame)) { isSmaller = true } else { lines[index].isJoined = true }
            }
            for index in lines.indices {
                let step = lines[index].step
                for simpler in simpler(step) where simpler != step {
                    lines[index].step = simpler
                    if fails(with(lines, frame)) {
                        isSmaller = true
                        break
                    }
                    lines[index].step = step
                }
            }
            for shards in 1..<max(frame.shards, 1) {
                var fewer = frame
                fewer.shards = shards
                guard fails(with(lines, fewer)) else { continue }
                frame = fewer
                isSmaller = true
                break
            }
        }
        return with(lines, frame)
    }

    private static func simpler(_ step: ClientProgram.Step) -> [ClientProgram.Step] {
        switch step {
        case .connect(let client, let connect, let byHand):
            var steps: [ClientProgram.Step] = []
            if connect.will != nil {
                var plain = connect
                plain.will = nil
                steps.append(.connect(client, plain, byHand: byHand))
            }
            if connect.keepAlive > 0 {
                var plain = connect
                plain.keepAlive = 0
                steps.append(.connect(client, plain, byHand: byHand))
            }
            return steps
        case .send(let client, .subscribe(let subscriptions, let identifier)) where subscriptions.count > 1:
            return subscriptions.indices.map { index in
                var fewer = subscriptions
                fewer.remove(at: index)
                return .send(client, .subscribe(fewer, identifier: identifier))
            }
        case .send(let client, .publish(let publish)) where publish.isDuplicate || publish.isRetained:
            var plain = publish
            plain.isDuplicate = false
            var live = plain
            live.isRetained = false
            return [.send(client, .publish(live)), .send(client, .publish(plain))]
        default: return []
        }
    }
}
