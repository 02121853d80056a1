"""Template of a server and real devices."""

from fedprune.simulations.scaffold.template import Template

_CLIENTS = 3

_HEAD = """\
# A federation of real devices; the server and each device read a copy of this file:
#     fedprune certs certs --host SERVER --client edge-01 --client edge-02 ...
#     fedprune serve fedprune.toml --tls certs                       (on the server)
#     fedprune client fedprune.toml --server SERVER:8000 --id edge-01 \\
#         --data npz:mine.npz --tls keys                             (on each device)
# Of its copy a device takes [task] and [device] only.  "fedprune poc DIR" tries it all
# on one machine.  Lines that begin with "#" and no space are the defaults; take the "#"
# away to change one.
"""

DEVICES = Template(
    head=_HEAD,
    values={
        ("task", "clients"): _CLIENTS,
        # A device may lack a class, and the server has no data.
        ("task", "outputs"): 10,
        ("task", "input_shape"): (1, 8, 8),
        ("rounds", "cohort"): _CLIENTS,
        ("rounds", "minimum"): _CLIENTS - 1,
    },
    next="fedprune certs certs --host SERVER --client edge-01, and what {} says",
)
