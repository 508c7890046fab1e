import Access
import Certificates
import Store
