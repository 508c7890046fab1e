internal import Access
internal import GRDB
