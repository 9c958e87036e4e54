from paced.api.grading import Sample as Sample
from paced.api.grading import Verdict as Verdict
from paced.api.grading import Verifier as Verifier
from paced.api.grading import grade as grade
from paced.api.losses import PacedLoss as PacedLoss
from paced.api.losses import Projection as Projection
from paced.api.losses import SparseTargets as SparseTargets
from paced.api.losses import akl as akl
from paced.api.losses import forward_kl as forward_kl
from paced.api.losses import jsd as jsd
from paced.api.losses import reverse_kl as reverse_kl
from paced.api.running import run as run
from paced.api.targets import StoredTargets as StoredTargets
from paced.api.targets import padded_targets as padded_targets
from paced.api.targets import stored_targets as stored_targets
from paced.api.weights import weights as weights

__version__: str
