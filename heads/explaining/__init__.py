"""Why a head says what it says: heat maps of classes over images."""
