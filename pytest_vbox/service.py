from dataclasses import dataclass
@dataclass
class Endpoint: 
    url: str
    user: str=""
    password: str=""
def find(url, *, state): return Endpoint(url)
